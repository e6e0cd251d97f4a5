from __future__ import annotations

import torch
from mmengine.dist import all_reduce, get_world_size
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F


@MODELS.register_module()
class RunningFeatureNorm(nn.Module):
    """y = gamma x^ + beta with the running statistics of the whole data, in training too (paper, section 3.3).

    Batch normalisation would use the statistics of the batch while it trains, which at the paper's batch size of 1 are
    those of one image. Here each training batch updates the running mean and variance first, and those normalise. The
    statistics are plain averages over all batches so far until ``1 / momentum`` batches have been seen, then moving
    ones, so that the first batches are not normalised by the arbitrary start (0, 1). They are in the checkpoint.

    With several processes a batch is that of all of them, so that they normalise as one process with the joint batch.

    The head applies it once per image, outside of the chunks, so a long sequence does not count more often.

    Args:
        num_features (int): channels C.
        momentum (float): least weight of a new batch, in (0, 1]. Defaults to 0.01.
        eps (float): added to the variance. Defaults to 1e-5.
        frozen (bool): neither the statistics nor gamma and beta change any more. Defaults to False.

    Raises:
        ValueError: for a momentum outside (0, 1].
    """

    def __init__(self, num_features: int, momentum: float = 0.01, eps: float = 1e-5, frozen: bool = False) -> None:
        super().__init__()
        if not 0 < momentum <= 1:
            raise ValueError(f'momentum is {momentum}; it is the weight of a new batch and must be in (0, 1].')
        self.momentum = momentum
        self.eps = eps
        self.frozen = frozen
        self.weight = nn.Parameter(torch.ones(num_features), requires_grad=not frozen)
        self.bias = nn.Parameter(torch.zeros(num_features), requires_grad=not frozen)
        self.register_buffer('running_mean', torch.zeros(num_features))
        self.register_buffer('running_var', torch.ones(num_features))
        self.register_buffer('num_batches_tracked', torch.tensor(0))

    @torch.no_grad()
    def _update(self, x: Tensor) -> None:
        self.num_batches_tracked += 1
        weight = (1 / self.num_batches_tracked.to(self.running_var)).clamp(min=self.momentum)
        # In float32 under autocast, in float64 in a model of float64.
        var, mean = torch.var_mean(x.to(self.running_var), dim=(0, 2, 3), unbiased=False)
        if get_world_size() > 1:
            moments = torch.stack([mean, var + mean.square()])
            all_reduce(moments, 'mean')  # all processes have equally many images
            mean, var = moments[0], moments[1] - moments[0].square()
        # The data's variance is the mean of the batches' variances and the variance of their means.
        self.running_var.lerp_(var, weight).add_(weight * (1 - weight) * (mean - self.running_mean).square())
        self.running_mean.lerp_(mean, weight)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; while training and not frozen, count the batch first.

        Args:
            x (Tensor): (N, C, H, W).

        Returns:
            Tensor: (N, C, H, W).
        """
        if self.training and not self.frozen:
            self._update(x)
        # Copies, since backward needs the statistics of now and another forward may change them before it runs.
        mean, var = self.running_mean.clone(), self.running_var.clone()
        return F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)
