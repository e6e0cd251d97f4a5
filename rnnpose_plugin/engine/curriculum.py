"""Easier before harder: hooks that change what the head trains on while the training goes on. All off by default."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from mmpose.registry import HOOKS
from torch.nn import Module


class CurriculumHook(Hook):
    """Sets one field of ``head.curriculum`` before every training iteration; a subclass says which and to what.

    The value is a function of the number of finished iterations or epochs alone, so a resumed training has the same.

    Args:
        by_epoch (bool): count epochs instead of iterations. Defaults to False.
    """

    field: str

    def __init__(self, by_epoch: bool = False) -> None:
        self.by_epoch = by_epoch

    def value_at(self, done: int) -> int | float | bool:
        """The field's value.

        Args:
            done (int): finished iterations, or finished epochs.

        Returns:
            int | float | bool: for the next iteration.
        """
        raise NotImplementedError

    def before_train(self, runner: Runner) -> None:
        """Find the head.

        Args:
            runner (Runner): of the training.

        Raises:
            ValueError: if the model's head has no curriculum, or if epochs are to be counted where there are none.
        """
        self.head = self._find_head(runner)
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(
                f'{type(self).__name__} has by_epoch=True, but an iteration-based training has no epochs; set '
                'by_epoch=False and count iterations.'
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Set the field.

        Args:
            runner (Runner): of the training.
            batch_idx (int): index of the batch in its epoch.
            data_batch (dict, optional): unused.
        """
        done = runner.epoch if self.by_epoch else runner.iter
        setattr(self.head.curriculum, self.field, self.value_at(done))

    def after_train(self, runner: Runner) -> None:
        """Give the head its default back.

        Args:
            runner (Runner): of the training.
        """
        # A dataclass keeps the defaults of its fields on the class.
        setattr(self.head.curriculum, self.field, getattr(type(self.head.curriculum), self.field))

    def _find_head(self, runner: Runner) -> Module:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        head = getattr(model, 'head', None)
        if not hasattr(head, 'curriculum'):
            raise ValueError(
                f'{type(self).__name__} needs a RecurrentPoseHead, but the head is a {type(head).__name__}; '
                'take the hook out of custom_hooks.'
            )
        return head


@HOOKS.register_module()
class GrowSequenceHook(CurriculumHook):
    """Training sequences begin with few people and grow by one at a time, or double.

    Where to look next can be learned on the first two people; thirty steps of an untrained network teach little and
    cost as much as those of a trained one. Salvador et al. (2017), "Recurrent Neural Networks for Semantic Instance
    Segmentation", begin with two objects and extend; Bengio et al. (2009), "Curriculum Learning", is the general idea.

    Args:
        start (int): most people per image at first, >= 1.
        every (int): iterations, or epochs, until there are more, >= 1.
        by_epoch (bool): ``every`` counts epochs. Defaults to False.
        doubles (bool): twice as many every time instead of one more, for data with crowds. Defaults to False.

    Raises:
        ValueError: for settings that cannot be.
    """

    field = 'max_people'

    def __init__(self, start: int, every: int, by_epoch: bool = False, doubles: bool = False) -> None:
        super().__init__(by_epoch)
        _refuse_below('GrowSequenceHook.start', start, 1)
        _refuse_below('GrowSequenceHook.every', every, 1)
        self.start = start
        self.every = every
        self.doubles = doubles

    def value_at(self, done: int) -> int:
        """Most people per image.

        Args:
            done (int): finished iterations, or finished epochs.

        Returns:
            int: for the next iteration.
        """
        grown = done // self.every
        return self.start * 2**grown if self.doubles else self.start + grown


def _refuse_below(name: str, value: int, least: int) -> None:
    if type(value) is not int or value < least:  # neither True nor 2.0
        raise ValueError(f'{name} is {value!r}; use a whole number of at least {least}.')
