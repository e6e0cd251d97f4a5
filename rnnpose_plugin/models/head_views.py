"""Test-time settings of the recurrent head, and the views of a batch that they ask for."""

from __future__ import annotations

from torch import Tensor

from ..codecs.instance_heatmap import InstanceHeatmap
from .view_merging import View, check_merging, list_views

# The keys of test_cfg and their defaults; the first three are MMPose's.
TEST_SETTINGS = dict(
    output_heatmaps=False,
    flip_test=False,
    multiscale_test=False,
    unmatched='keep',
    match_distance=0.8,
    ae_refinement=False,
    snap_to_peaks=False,
    score_threshold=0.0,
    stop_threshold=None,
    decode_all_scales=True,
)


def read_test_settings(test_cfg: dict | None) -> dict:
    """``test_cfg`` with the defaults filled in.

    - ``output_heatmaps`` adds the heatmaps to the output;
    - ``flip_test`` and ``multiscale_test`` average over views, whose people are matched first, see :func:`merge_views`
      for ``unmatched`` and ``match_distance``;
    - ``ae_refinement`` fills in discarded joints from the AE maps behind F (section 3.3), see :func:`fill_missing`;
    - ``decode_all_scales=False``, with these two: the decoder runs at the image's own scale, and the other scales
      serve only to average the AE maps. That is section 3.3 to the letter; by default the decoder runs at each scale;
    - ``snap_to_peaks`` moves joints to peaks of the backbone's own maps behind F, whose heights become their scores
      and, times the stop probability, the instance score, see :func:`snap_to_peaks`;
    - whoever has a lower instance score than ``score_threshold`` is left out;
    - ``stop_threshold`` is omega in testing, None that of the head. The paper gives the one of training only.

    Args:
        test_cfg (dict, optional): the model's.

    Returns:
        dict: a value for each key of ``TEST_SETTINGS``.

    Raises:
        ValueError: for an unknown setting or value.
    """
    unknown = set(test_cfg or {}) - set(TEST_SETTINGS)
    if unknown:
        raise ValueError(f'test_cfg has unknown settings {sorted(unknown)}; known are {sorted(TEST_SETTINGS)}.')
    settings = {**TEST_SETTINGS, **(test_cfg or {})}
    check_merging(settings['unmatched'], settings['match_distance'])
    for name, default in TEST_SETTINGS.items():  # the word 'no' would switch an option on
        if isinstance(default, bool) and not isinstance(settings[name], bool):
            raise ValueError(f'{name} is {settings[name]!r}; use True or False.')
    least = settings['score_threshold']
    if isinstance(least, bool) or not isinstance(least, (int, float)) or not 0 <= least < 1:
        raise ValueError(f'score_threshold is {least!r}; instance scores are compared with it, use 0 to below 1.')
    omega = settings['stop_threshold']
    if omega is not None and (not isinstance(omega, (int, float)) or not 0 < omega < 1):
        raise ValueError(f'stop_threshold (omega) in test_cfg is {omega!r}; use None for that of the head, or (0, 1).')
    if not (settings['decode_all_scales'] or (settings['multiscale_test'] and settings['ae_refinement'])):
        raise ValueError(
            'decode_all_scales is False, so the other scales serve only the refinement by AE maps; set multiscale_test '
            'and ae_refinement, or leave it out.'
        )
    if settings['ae_refinement'] and settings['snap_to_peaks']:
        raise ValueError('ae_refinement and snap_to_peaks both want the maps behind F; leave one of them out.')
    return settings


def views_of_batch(feats: tuple | list, metainfo: dict, settings: dict, codec: InstanceHeatmap) -> list[View]:
    """The views of a batch, checked against what the samples and the codec support.

    Args:
        feats (tuple | list): from the neck, nested as ``BottomupPoseEstimator`` makes them.
        metainfo (dict): of the batch's first sample.
        settings (dict): from :func:`read_test_settings`.
        codec (InstanceHeatmap): of the head.

    Returns:
        list[View]: the first is the image at its own scale, not mirrored.

    Raises:
        ValueError: if the samples lack what a setting needs, or the codec's stride is not that of the features.
    """
    scales = metainfo.get('aug_scales') if settings['multiscale_test'] else []
    if settings['multiscale_test'] and not scales:
        raise ValueError(
            f'multiscale_test is True, but the samples have aug_scales={scales}; set aug_scales in BottomupResize '
            'and add it to the meta_keys of PackPoseInputs.'
        )
    if settings['flip_test'] and metainfo.get('flip_indices') is None:
        raise ValueError(
            'flip_test is True, but the samples have no flip_indices; add it to the meta_keys of PackPoseInputs.'
        )
    views = list_views(feats, codec.input_size, settings['flip_test'], scales)
    _check_stride(views[0].feats[0], metainfo.get('batch_input_shape'), codec.stride)
    return views


def decoded_views(views: list[View], settings: dict) -> list[View]:
    """The views in which the decoder looks for people.

    Args:
        views (list[View]): from :func:`views_of_batch`.
        settings (dict): from :func:`read_test_settings`.

    Returns:
        list[View]: all; without ``decode_all_scales`` those at the image's own scale.
    """
    return [view for view in views if settings['decode_all_scales'] or view.input_size == views[0].input_size]


def _check_stride(features: Tensor, input_shape: tuple[int, int] | None, stride: float) -> None:
    """Poses would silently be placed at another scale; (h, w) is None without MMPose's preprocessor."""
    if any(abs(cells * stride - side) >= stride for cells, side in zip(features.shape[-2:], input_shape or ())):
        raise ValueError(
            f'The codec takes a cell for {stride:g} pixels, but the features of an image of '
            f"{tuple(input_shape[::-1])} pixels have {tuple(features.shape[:-3:-1])} cells; set the codec's "
            "heatmap_size to input_size / the neck's stride."
        )
