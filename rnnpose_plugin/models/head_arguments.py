"""Plain Python: the arguments of ``RecurrentPoseHead`` that are refused at construction."""

from __future__ import annotations


def check_arguments(
    stop_threshold: float,
    max_instances: int,
    max_train_instances: int | None,
    max_surplus: int | None,
    chunk_size: int | None,
    hidden_channels: tuple[int, ...],
    second_lstm: dict | None,
    first_lstm_loss: bool,
    claimed_maps: bool = False,
    denoising: dict | None = None,
    feedback_passes: int = 2,
) -> None:
    """Refuse what the head cannot be built with; the arguments are those of :class:`RecurrentPoseHead`.

    Args:
        stop_threshold (float): omega, in (0, 1).
        max_instances (int): >= 1.
        max_train_instances (int, optional): >= 1.
        max_surplus (int, optional): >= 0.
        chunk_size (int, optional): T, >= 1.
        hidden_channels (tuple[int, ...]): of LSTM1; LSTM2 needs at least one layer there.
        second_lstm (dict, optional): arguments of LSTM2.
        first_lstm_loss (bool): True unless there is an LSTM2.
        claimed_maps (bool): with :class:`ClaimingLSTM`. Defaults to False.
        denoising (dict, optional): arguments of :class:`Denoising`. Defaults to None.
        feedback_passes (int): of LSTM1; denoising needs at least one. Defaults to 2.

    Raises:
        ValueError: for the first argument out of its range, with its value.
    """
    if not isinstance(stop_threshold, (int, float)) or not 0 < stop_threshold < 1:
        raise ValueError(f'stop_threshold (omega) is {stop_threshold!r}; it is a probability strictly in (0, 1).')
    if not isinstance(max_instances, int) or max_instances < 1:
        raise ValueError(f'max_instances is {max_instances!r}; allow at least 1 person per image.')
    if not _is_none_or_from(max_train_instances, 1):
        raise ValueError(f'max_train_instances is {max_train_instances!r}; use None for max_instances, or at least 1.')
    if not _is_none_or_from(max_surplus, 0):
        raise ValueError(f'max_surplus is {max_surplus!r}; use None for no limit, or 0 and more steps.')
    if not _is_none_or_from(chunk_size, 1):
        raise ValueError(f'chunk_size is {chunk_size!r}; T is a number of people and must be at least 1.')
    if second_lstm is not None and not hidden_channels:
        raise ValueError(
            f'second_lstm={second_lstm} refines the heatmaps of LSTM1, but hidden_channels is {hidden_channels}; '
            'give LSTM1 its layers, or leave second_lstm out.'
        )
    for name, value in (('first_lstm_loss', first_lstm_loss), ('claimed_maps', claimed_maps)):
        if not isinstance(value, bool):  # any word, such as 'no', would count as True
            raise ValueError(f'{name} is {value!r}; use True or False.')
    if second_lstm is None and not first_lstm_loss:
        raise ValueError('first_lstm_loss is False, but without second_lstm nothing else is supervised; set one.')
    if denoising is not None:
        _check_denoising(denoising, feedback_passes, first_lstm_loss)


def _check_denoising(denoising: dict, feedback_passes: int, first_lstm_loss: bool) -> None:
    if not isinstance(denoising, dict):
        raise ValueError(f'denoising is {denoising!r}; use None or, in a config file, a dict such as dict(share=1.0).')
    if not feedback_passes:
        raise ValueError(
            f'denoising={denoising}, but feedback_passes is {feedback_passes}: without the loop a step is given no '
            'heatmaps, so none can be noised; use 1 pass or more.'
        )
    if not first_lstm_loss:
        raise ValueError(
            f'denoising={denoising} supervises the heatmaps of LSTM1, but first_lstm_loss is False; set it to True, or '
            'leave denoising out.'
        )


def _is_none_or_from(value: int | None, least: int) -> bool:
    return value is None or (isinstance(value, int) and value >= least)
