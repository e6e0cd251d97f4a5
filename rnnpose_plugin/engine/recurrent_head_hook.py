"""How hooks reach into the recurrent head: through ``head.training_controls`` alone."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner


class RecurrentHeadHook(Hook):
    """Base class of the hooks that set the ``training_controls`` of a ``RecurrentPoseHead``."""

    def before_train(self, runner: Runner) -> None:
        """Find the head, as ``self.head``, and its controls, as ``self.controls``.

        Args:
            runner (Runner): of the training.

        Raises:
            ValueError: if the model has another head.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self.head = getattr(model, 'head', None)
        if not hasattr(self.head, 'training_controls'):
            raise ValueError(
                f'{type(self).__name__} needs a RecurrentPoseHead, but the head is a {type(self.head).__name__}; '
                'take the hook out of the config.'
            )
        self.controls = self.head.training_controls
