"""A tiny fine-tuning by one process or by several of torchrun: losses, weights and curve.

Each word of its command line is a training: the arguments of ``train`` in JSON.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_batches import made_records
from made_network import SETTINGS, made_network, window_batches
from safetensors.torch import save_file

from detection.ranks import joined
from detection.training.finetuning import shuffle_buffer
from detection.training.finetuning.descent import Descent
from detection.training.finetuning.finetune import finetune_head


class Ended(Exception):
    """Ends a training of one process as a kill would."""


def train(ranks, folder, layers, end=0, dying=-1):
    """Train, and write what was learnt.

    Args:
        ranks: the processes.
        folder: where all files are written.
        layers: the first layer that is trained.
        end: the step at which to end, 0 for none.
        dying: which process is killed there; -1 for all.

    Raises:
        Ended: a process that trains alone has reached ``end``.
    """
    folder = Path(folder)
    settings = replace(SETTINGS, train_from=layers, jitter=0.2, images=4, conv_images=4)
    with ranks.first_before_others():
        folder.mkdir(exist_ok=True)
        records = made_records(folder)
    network, events = made_network(settings), []

    def steps(items, what, total):
        for step in items:
            if end and step == end and dying in (-1, ranks.rank):
                if ranks.count == 1:
                    raise Ended
                os.kill(os.getpid(), signal.SIGKILL)
            yield step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle_buffer, "STEPS_HELD", 8)  # 100 take too long
        finetune_head(
            Descent(network, settings, seed=0, ranks=ranks),
            window_batches(records, settings),
            window_batches(records, settings, seed=1),
            folder / "checkpoint",
            "key",
            report=events.append,
            progress=steps,
        )
    if ranks.rank == 0:
        (folder / "events.json").write_text(json.dumps(events))
        trained = {n: v.detach().contiguous() for n, v in network.trained().items()}
        save_file(trained, folder / "weights.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined(torch.device("cpu")) as ranks:
        for words in sys.argv[1:]:
            train(ranks, *json.loads(words))
