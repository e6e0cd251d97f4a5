"""A curriculum: training sequences that grow while the training goes on. Off by default."""

from __future__ import annotations

from mmengine.runner import IterBasedTrainLoop, Runner
from mmpose.registry import HOOKS

from .recurrent_head_hook import RecurrentHeadHook


@HOOKS.register_module()
class GrowSequenceHook(RecurrentHeadHook):
    """Training sequences begin with few people and grow by one at a time, or double.

    Where to look next can be learned on the first two people; thirty steps of an untrained network teach little and
    cost as much as those of a trained one. Salvador et al. (2017), "Recurrent Neural Networks for Semantic Instance
    Segmentation", begin with two objects and extend; Bengio et al. (2009), "Curriculum Learning", is the general idea.

    The length depends on the number of finished iterations or epochs alone, so a resumed training repeats it.

    Args:
        start (int): most people per image at first, >= 1.
        every (int): iterations, or epochs, between two increases, >= 1.
        by_epoch (bool): ``every`` counts epochs. Defaults to False.
        doubles (bool): double each time instead of one more, for data with crowds. Defaults to False.

    Raises:
        ValueError: for settings out of range.
    """

    def __init__(self, start: int, every: int, by_epoch: bool = False, doubles: bool = False) -> None:
        for name, value in (('start', start), ('every', every)):
            if type(value) is not int or value < 1:  # neither True nor 2.0
                raise ValueError(f'GrowSequenceHook.{name} is {value!r}; use a whole number of at least 1.')
        self.start = start
        self.every = every
        self.by_epoch = by_epoch
        self.doubles = doubles

    def max_people_at(self, done: int) -> int:
        """Most people per image.

        Args:
            done (int): finished iterations, or finished epochs.

        Returns:
            int: for the next iteration.
        """
        grown = done // self.every
        return self.start * 2**grown if self.doubles else self.start + grown

    def before_train(self, runner: Runner) -> None:
        """Find the head.

        Args:
            runner (Runner): of the training.

        Raises:
            ValueError: if the model has another head, or epochs are to be counted where there are none.
        """
        super().before_train(runner)
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(
                'GrowSequenceHook has by_epoch=True, but an iteration-based training has no epochs; set '
                'by_epoch=False and count iterations.'
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Set the most people per image.

        Args:
            runner (Runner): of the training.
            batch_idx (int): index of the batch in its epoch.
            data_batch (dict, optional): unused.
        """
        self.controls.max_people = self.max_people_at(runner.epoch if self.by_epoch else runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Lift the limit.

        Args:
            runner (Runner): of the training.
        """
        self.controls.max_people = None
