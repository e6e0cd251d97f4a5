"""Peak memory of one training step of the decoder, chunked against full backprop: python tools/measure_memory.py."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

import torch

from rnnpose_plugin.engine.chunked_backprop import backprop_in_chunks
from rnnpose_plugin.models.matched_loss import HungarianHeatmapLoss, StopLoss
from rnnpose_plugin.models.recurrent_decoder import RecurrentDecoder
from rnnpose_plugin.models.training_sequence import SequenceRules, Targets, TrainingSequence


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--people', type=int, default=30, help='in the image (default: %(default)s)')
    parser.add_argument('--chunk-size', type=int, default=4, help='T (default: %(default)s)')
    parser.add_argument('--size', type=int, default=128, help='side of the heatmaps (default: %(default)s)')
    parser.add_argument('--device', default='cpu', help='cpu or cuda (default: %(default)s)')
    parser.add_argument('--case', choices=['base', 'chunked', 'full'], help=argparse.SUPPRESS)
    return parser.parse_args()


def peak_mib(device: str) -> float:
    """Peak memory so far of this process, or of the device."""
    if device == 'cuda':
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def one_step(args: argparse.Namespace) -> float:
    """Run one case in this process; 'base' has everything but the sequence."""
    torch.manual_seed(0)
    decoder = RecurrentDecoder(136, 17).to(args.device)
    decoder.to_stop.bias.data.fill_(-9)  # the sequence ends after the last person
    targets = Targets(
        torch.rand(1, args.people, 17, args.size, args.size, device=args.device),
        torch.ones(1, args.people, 17, device=args.device),
        [args.people],
    )
    chunk_size = args.chunk_size if args.case == 'chunked' else args.people + 1
    rules = SequenceRules(0.27, chunk_size, max_steps=args.people + 1)
    sequence = TrainingSequence(decoder, HungarianHeatmapLoss(), StopLoss(), targets, rules)
    static_gates, _ = decoder.start(torch.randn(1, 136, args.size, args.size, device=args.device))
    if args.case == 'base':
        loss = static_gates.sum()
    else:
        loss, _ = backprop_in_chunks(sequence.chunks, [static_gates], list(decoder.parameters()))
    loss.backward()
    return peak_mib(args.device)


def main() -> None:
    args = parse_args()
    if args.case:
        print(one_step(args))
        return
    peaks = {}
    for case in ('base', 'chunked', 'full'):  # a process each, since a process's peak never falls again
        print(f'measuring {case} ...', file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], '--case', case], stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            sys.exit(f'error: the case {case} failed')
        peaks[case] = float(done.stdout.split()[-1])
    chunked, full = (peaks[case] - peaks['base'] for case in ('chunked', 'full'))
    print(f'{args.people} people, {args.size} x {args.size} cells, {args.device}; peak over that without a sequence')
    print(f'full backprop      {full:8.0f} MiB')
    print(f'chunked, T = {args.chunk_size:<4}  {chunked:8.0f} MiB = {chunked / full:.3f} of full')


if __name__ == '__main__':
    main()
