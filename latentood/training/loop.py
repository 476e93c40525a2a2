"""The training loop: a plain one, that goes on after a stop to the same weights.

Every step is a function of (state, seed, step): the order of the rows, random transforms and
dropout are drawn from streams named by these, so that nothing of a generator is to be saved.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from latentood.errors import ModelError
from latentood.models.heads import Prediction
from latentood.pipeline.sections import Target
from latentood.pipeline.targets import build, find
from latentood.training import checkpoints, history, weights
from latentood.training.batches import Order, cycle, read, seed_torch, stream
from latentood.training.job import Job
from latentood.training.measures import Measure
from latentood.training.network import Network
from latentood.training.objectives.base import Batch, Moment, TrainedNetwork

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called after every step with what is being done, steps done, and steps in all."""

_SECONDS_BETWEEN_CHECKPOINTS = 60
_EVAL_ROWS = 512  # rows of the val split run together
_DROPOUT = 1 << 40  # streams of a step; those of epochs and rows are below


@dataclass
class Run:
    """The state of a training run."""

    job: Job
    out: Path
    progress: Progress
    step: int = 0  # steps done
    sums: dict[str, float] = field(default_factory=dict)  # of the epoch so far
    epochs: list[dict[str, float]] = field(default_factory=list)  # the history
    best: dict[str, float] = field(default_factory=dict)  # the epoch of the best weights
    finished: bool = False

    def __post_init__(self) -> None:
        from lightning_fabric import Fabric

        config, job = self.job.config, self.job
        self.fabric = Fabric(
            accelerator="cuda" if job.device.type == "cuda" else "cpu",
            devices=config.devices if job.device.index is None else [job.device.index],
            precision=config.precision,  # type: ignore[arg-type]  # checked by Fabric
        )
        self.fabric.launch()
        self.order = Order(job.rows, config.batch_size, job.seed)
        self.steps = config.epochs * self.order.steps
        self.network: Network = job.network.to(job.device)
        optimiser = build(config.optimiser, params=self.network.parameters())
        self.schedule = self._schedule(optimiser)
        self.wrapped, self.optimiser = self.fabric.setup(self.network, optimiser)
        self.average = (
            AveragedModel(
                self.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
            )
            if config.ema
            else None
        )

    def _schedule(self, optimiser: Any) -> Any:
        config = self.job.config.schedule
        if config is None:
            return None
        moves = self.steps if config.per == "step" else self.job.config.epochs
        known = inspect.signature(find(config.target)).parameters
        lengths = {name: moves for name in ("total_steps", "T_max") if name in known}
        args = lengths | config.args
        return build(Target(target=config.target, args=args), optimizer=optimiser)

    @property
    def moment(self) -> Moment:
        """How far the run is."""
        return Moment(self.step / self.order.steps, self.step / self.steps)

    @property
    def trained(self) -> Network:
        """The network whose weights are kept: the moving average, if there is one."""
        return self.network if self.average is None else cast("Network", self.average.module)

    def state(self) -> dict[str, Any]:
        """Give all that a later call needs to go on."""
        return {
            "network": dict(self.network.state_dict()),
            "optimiser": self.optimiser.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "average": None if self.average is None else dict(self.average.state_dict()),
            "step": self.step,
            "sums": self.sums,
            "epochs": self.epochs,
            "best": self.best,
            "finished": self.finished,
            "threads": torch.get_num_threads(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        if state["threads"] != torch.get_num_threads():
            log.warning(
                "train: begun with %d threads and gone on with %d, so sums are added in another "
                "order: the last bits are not those of a run that was never stopped",
                state["threads"], torch.get_num_threads(),
            )  # fmt: skip
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        for name in ("step", "sums", "epochs", "best", "finished"):
            setattr(self, name, state[name])

    def save(self) -> None:
        """Write the checkpoint."""
        checkpoints.save(self.out / checkpoints.FILE, self.state(), identity=self.job.identity)

    def go(self, stopped: Callable[[], bool]) -> None:
        """Train until the end, or until a stop is asked for after a step."""
        saved = time.monotonic()
        while not self.finished:
            epoch, first = divmod(self.step, self.order.steps)
            if self.sums and first == 0:  # stopped between the last step of an epoch and its end
                self._end_epoch()
                continue
            rows = self.order.batches(epoch, first)
            outliers = self._outliers(first, len(rows), epoch)
            self.network.train()
            for batch in read(self.job.train, rows, self.job.config.workers):
                self._take(batch, next(outliers))
                self.progress("train", self.step, self.steps)
                if stopped():
                    self.save()
                    return
                if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
                    self.save()
                    saved = time.monotonic()
            self._end_epoch()

    def _outliers(self, first: int, count: int, epoch: int) -> Iterator[Tensor | None]:
        """Give a batch of OOD inputs for each step, if the objective reads them."""
        source, config = self.job.outliers, self.job.config
        if source is None or not self.network.objective.reads_outliers:
            while True:
                yield None
        start = epoch * self.order.steps + first
        seed = stream(self.job.seed, _DROPOUT)
        rows = [
            cycle(len(cast("Sized", source)), config.batch_size, seed, step)
            for step in range(start, start + count)
        ]
        for inputs, _ in read(source, rows, config.workers):
            yield inputs

    def _take(self, batch: list[Tensor], outliers: Tensor | None) -> None:
        """Take one step."""
        inputs, targets = (moved(part, self.job.device) for part in batch)
        seed_torch(stream(self.job.seed, _DROPOUT, self.step))
        moment = self.moment
        self.optimiser.zero_grad()
        others = None if outliers is None else outliers.to(self.job.device)
        network = cast("TrainedNetwork", self.wrapped)  # Fabric's gives all attributes of ours
        loss, prediction = self.network.objective.batch_loss(
            network, Batch(inputs, targets, others), moment
        )
        value = loss.item()
        if not abs(value) < float("inf"):
            self._refuse(value, prediction)
        self.fabric.backward(loss)
        if self.job.config.clip is not None:
            self.fabric.clip_gradients(self.wrapped, self.optimiser, max_norm=self.job.config.clip)
        with self._warming_up() if self.step < self.job.config.warmup else nullcontext():
            self.optimiser.step()
        self._move("step")
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.step += 1
        self._add(rows=len(targets), loss=value * len(targets))
        if prediction is not None:
            self._add(right=int((prediction.probability.argmax(dim=1) == targets).sum()))

    @contextmanager
    def _warming_up(self) -> Iterator[None]:
        """Lower the learning rate for one of the first steps."""
        rates = [group["lr"] for group in self.optimiser.param_groups]
        share = (self.step + 1) / self.job.config.warmup
        for group, rate in zip(self.optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * share
        yield
        for group, rate in zip(self.optimiser.param_groups, rates, strict=True):
            group["lr"] = rate

    def _move(self, now: str) -> None:
        config = self.job.config.schedule
        if config is not None and config.per == now:
            self.schedule.step()

    def _add(self, **values: float) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def _refuse(self, loss: float, prediction: Prediction | None) -> None:
        """Stop at a loss that is not finite; the last checkpoint stays."""
        epoch, batch = divmod(self.step, self.order.steps)
        rows = self.order.batches(epoch)[batch]
        cause = ""
        if prediction is not None:
            finite = bool(prediction.logits.isfinite().all())
            cause = f"the logits are {'finite, the loss is not' if finite else 'not finite'}; "
        rate = self.optimiser.param_groups[0]["lr"]
        raise ModelError(
            f"train: the loss must stay finite, got {loss} in step {self.step + 1} of "
            f"{self.steps} (epoch {epoch + 1}; {cause}rows {', '.join(map(str, rows[:8]))}, …); "
            f"lower the learning rate from {rate:g}, or set training.clip"
        )

    def _end_epoch(self) -> None:
        """Measure, keep the best weights, and write the history."""
        done = self.step // self.order.steps
        rows = self.sums.pop("rows")
        line = {
            "epoch": float(done),
            "lr": float(self.optimiser.param_groups[0]["lr"]),
            "loss": self.sums["loss"] / rows,
            **({"accuracy": self.sums["right"] / rows} if "right" in self.sums else {}),
            **self.network.objective.coefficients(self.moment),
        }
        self._move("epoch")
        if measure := self._measure():
            line |= {f"val_{name}": value for name, value in measure.values().items()}
        self.sums = {}
        self.epochs.append(line)
        if self._is_best(line, measure.ranking if measure else {}):
            self.best = line
            weights.save(self.trained, self.out / weights.FILE)
            if measure and (statistics := measure.statistics()):
                history.write_statistics(statistics, done, self.out / history.STATISTICS)
        history.write(self.epochs, self.out / history.FILE)
        patience = self.job.config.patience
        waited = done - self.best["epoch"]
        self.finished = done == self.job.config.epochs or (
            patience is not None and waited >= patience
        )
        if self.finished:
            weights.save(self.trained, self.out / weights.LAST)
        self.save()
        log.info("epoch %d: %s", done, line)

    def _is_best(self, line: dict[str, float], ranking: Mapping[str, int]) -> bool:
        """Whether no epoch before ranks as high: by the first value, then by the next."""

        def rank(one: dict[str, float]) -> list[float]:
            return [sign * one[f"val_{name}"] for name, sign in ranking.items()]

        return not self.best or not ranking or rank(line) > rank(self.best)

    @torch.no_grad()
    def _measure(self) -> Measure | None:
        """Measure what the objective says on the val split, if there is one."""
        source = self.job.val
        if source is None:
            return None
        network, config = self.trained.eval(), self.job.config
        measure = network.objective.measure(network.head.classes)
        size = _EVAL_ROWS if network.objective.predicts else config.batch_size
        parts = torch.arange(len(cast("Sized", source))).split(size)
        for batch in read(source, [part.tolist() for part in parts], config.workers):
            measure.add(network, *(moved(part, self.job.device) for part in batch))
        return measure


def moved(value: Any, device: torch.device) -> Any:
    """Move a tensor to a device, or all those of a list or a mapping."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {name: moved(part, device) for name, part in value.items()}
    return [moved(part, device) for part in value]
