"""The train step's benchmark: its clock, its counts, its programs and its report."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import train_step
from benchmarks.flax_programs import WORKS, FlaxTraining, with_training
from benchmarks.flop_count import forward_flops, layer_flops, step_flops, xla_flops
from benchmarks.random_volumes import random_volumes
from benchmarks.stopwatch import Contestant, Timing, race
from ivdjax.config import Config, read_config
from ivdjax.learning.augmentation import Crop
from ivdjax.model.stages import stage_crop
from ivdjax.model.tasks import stage_network
from ivdjax.networks import convolution

YAML = """
name: small
data: {channels: [t2, t1]}
augmentation: {elastic_mm: 0, bias: 0}
disc:
  network:
    {stem: 8, growth: [8, 8, 8], layers: [1, 1, 1], aspp_rates: [1, 2], aspp_growth: 8, path: [8, 8, 8]}
  loss: {cross_entropy_steps: 1, alpha: [1.0, 2.0], gamma: 1.5}
  optimizer: {learning_rate: 0.01, warmup_steps: 2, weight_decay: 0.1, average_decay: 0.9, clip_norm: 0.5}
  training: {steps: 20, batch_size: 2, crop: [16, 24]}
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("config") / "small.yaml"
    file.write_text(YAML, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def config(path: Path) -> Config:
    return read_config(path)


@pytest.fixture(scope="module")
def training(config: Config) -> FlaxTraining:
    return FlaxTraining(config, "disc", 1)


class TestStopwatch:
    def test_order_is_turned_round_and_every_call_waited_for(self):
        log: list[str] = []

        def contestant(name: str) -> Contestant:
            return Contestant(name, lambda: log.append(name) or name, lambda given: log.append(f"{given}."))

        timings, broken = race([contestant("a"), contestant("b")], steps=4, rounds=2)
        warm, timed_a, timed_b = ["a", "a.", "a", "a.", "b", "b.", "b", "b."], ["a", "a.", "a", "a", "a."], [
            "b", "b.", "b", "b", "b."
        ]  # fmt: skip
        assert log == [*warm, *timed_a, *timed_b, *timed_b, *timed_a]
        assert broken == {} and [len(timings[name].rounds_ms) for name in "ab"] == [2, 2]

    def test_one_that_cannot_run_leaves_the_others_their_times(self):
        def refuse() -> None:
            raise RuntimeError("out of memory\nmore")

        timings, broken = race([Contestant("a", refuse, print), Contestant("b", lambda: 1, lambda _: None)], 1)
        assert list(timings) == ["b"] and broken == {"a": "RuntimeError: out of memory"}

    def test_median_quartiles_and_ratio_by_hand(self):
        one, other = Timing((1.0, 2.0, 3.0, 4.0, 5.0)), Timing((2.0, 2.0, 9.0, 8.0, 5.0))
        assert (one.median_ms, one.quartiles_ms) == (3.0, (2.0, 4.0))
        assert one.ratio(other) == 2.0  # of 2, 1, 3, 2, 1
        assert Timing((7.0,)).quartiles_ms == (7.0, 7.0)

    @pytest.mark.parametrize(("steps", "rounds"), [(0, 1), (1, 0)])
    def test_too_few(self, steps, rounds):
        with pytest.raises(ValueError, match=f"not {steps} and {rounds}"):
            race([], steps, rounds)


class TestOperations:
    def test_by_hand(self, config):
        """2 x 16 x 24 positions, 9 taps, 2 channels in, 8 out; then a quarter of the positions each downsampling."""
        layers = dict(layer_flops(stage_network(config, "disc"), (2, 16, 24, 2)))
        assert layers["ConvUnit_0/Conv_0"] == 2 * (2 * 16 * 24) * 9 * 2 * 8
        assert layers["ConvUnit_1/Dense_0"] == 2 * (2 * 16 * 24) * 16 * 8
        assert layers["DenseBlock_1/ConvUnit_0/Conv_0"] == 2 * (2 * 8 * 12) * 9 * 8 * 8
        assert layers["DenseBlock_1/SqueezeExcitation_0/Dense_0"] == 2 * 2 * 16 * 4
        assert layers["DenseAtrousPyramid_0/ConvUnit_3/Conv_0"] == 2 * (2 * 4 * 6) * 9 * 16 * 8

    def test_a_step_is_three_passes_less_the_gradient_of_the_image(self, config):
        network, shape = stage_network(config, "disc"), (2, 16, 24, 2)
        first = 2 * (2 * 16 * 24) * 9 * 2 * 8
        assert step_flops(network, shape) == 3 * forward_flops(network, shape) - first

    @pytest.mark.parametrize("stage", ["disc", "region"])
    def test_near_to_what_xla_counts(self, root, stage, monkeypatch):
        """XLA counts normalisations and interpolations too, and leaves out what reads beyond the edge."""
        monkeypatch.setattr(convolution, "_SLOW_CHANNELS", ())  # those filled up on a CPU would count as well
        config = read_config(root / "configs" / "lumbar.yaml")
        network = stage_network(config, stage)
        box = jax.ShapeDtypeStruct((1, *stage_crop(config, stage).box, 1), jnp.float32)
        params = jax.eval_shape(network.init, jax.random.key(0), box)
        counted = xla_flops(jax.jit(network.apply).lower(params, box))
        assert counted == pytest.approx(forward_flops(network, box.shape), rel=0.05)


class TestVolumes:
    @pytest.mark.parametrize("crop", [Crop((16, 24), (2.0, 2.0), 0.5), Crop((4, 16, 16), (4.0, 4.0, 4.0), 0.0, True)])
    def test_nothing_is_blank_and_discs_lie_inside(self, crop):
        found = random_volumes(crop, 3, 2)
        assert found.image.shape == (2, 20, *(side * 3 // 2 for side in crop.box[-2:]), 3) and found.image.min() > 0
        assert 0.8 < (found.counted > 0).mean() < 1.0
        for case in range(2):
            inside = found.target[case][tuple(np.round(found.centres[case]).astype(int).T)]
            assert (inside > 0).all()
        assert set(np.unique(found.target)) <= (set(range(8)) if crop.levels else {0, *range(128, 256)})

    def test_another_seed_gives_others(self):
        crop = Crop((16, 24), (2.0, 2.0), 0.5)
        one, same, other = (random_volumes(crop, 1, 1, seed) for seed in (0, 0, 1))
        assert (one.image == same.image).all() and not (one.image == other.image).all()


class TestPrograms:
    @pytest.mark.soak
    def test_each_work_runs_and_a_step_moves_the_state(self, training):
        assert training.shape == (2, 16, 24, 2)
        assert [part.shape for part in training.batch[:3]] == [(2, 16, 24, 2), (2, 16, 24), (2, 16, 24)]
        assert training.batch.image.std() > 0.1 and 0 < training.batch.target.mean() < 1
        programs = {work: training.program(work) for work in WORKS}
        first, second = (programs["augmentation"].call().image for _ in range(2))
        assert np.abs(first - training.batch.image).max() == 0 and np.abs(second - first).max() > 0
        assert np.isfinite(programs["forward"].call()[0]).all()
        loss, gradient = programs["forward+backward"].call()
        rates = [float(programs["step"].call()["learning_rate"]) for _ in range(2)]
        assert 0 < loss < 10 and max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient)) > 0
        np.testing.assert_allclose(rates, [0.01 / 3, 0.02 / 3], rtol=1e-6)
        counts = {name: program.flops for name, program in programs.items()}
        assert counts["step"] > counts["forward+backward"] > 2 * counts["forward"] > 0

    def test_another_work(self, training):
        with pytest.raises(ValueError, match="inference is not timed; known are augmentation, forward"):
            training.program("inference")

    def test_batch_and_type_are_those_asked_for(self, config):
        found = with_training(config, "disc", 6, "bfloat16").disc.training
        assert (found.batch_size, found.compute, found.crop) == (6, "bfloat16", (16, 24))

    def test_bfloat16_is_what_the_network_computes_in(self, config, training):
        rough = FlaxTraining(with_training(config, "disc", 2, "bfloat16"), "disc", 1)
        a, b = (np.asarray(one.program("forward").call()[0]) for one in (training, rough))
        assert 0 < np.abs(a - b).max() < 0.1 * np.abs(a).max()


class TestCommand:
    @pytest.mark.soak
    def test_table_and_json(self, path, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(train_step, "PRODUCT_SIZE", {"cpu": 64})
        output = tmp_path / "results.json"
        arguments = ["--config", str(path), "--batch", "3", "--compute", "float32", "--steps", "2", "--cases", "1"]
        assert train_step.main([*arguments, "--output", str(output)]) == 0
        out = capsys.readouterr().out
        found = json.loads(output.read_text(encoding="utf-8"))
        assert [(row["batch"], row["work"]) for row in found["rows"]] == [(3, work) for work in WORKS]
        for row in found["rows"]:
            assert row["slices_per_s"] == pytest.approx(row["batch"] * 1000 / row["ms"])
            assert row["low_ms"] <= row["ms"] <= row["high_ms"]
            assert (row["share"] is None) == (row["work"] == "augmentation")
        assert found["rows"][1]["temporary_mib"] > 0 and found["products"]["float32"]["JAX"] > 0
        assert out.count("| float32 | 3 |") == 4 and "jax " in out and "cores" in out
        assert "Time of PyTorch" not in out

    def test_without_pytorch_it_says_how_to_have_it(self, path, capsys, monkeypatch):
        measured: list[tuple[int, str]] = []

        def note(config: Config, options: object, torch: object, results: object) -> None:
            assert torch is None
            measured.append((config.disc.training.batch_size, config.disc.training.compute))

        monkeypatch.setitem(sys.modules, "torch", None)
        monkeypatch.setattr(train_step, "PRODUCT_SIZE", {"cpu": 64})
        monkeypatch.setattr(train_step, "_measure_batch", note)
        assert train_step.main(["--config", str(path), "--batch", "2", "4", "--torch", "--steps", "1"]) == 0
        assert measured == [(n, compute) for compute in ("float32", "bfloat16") for n in (2, 4)]
        assert "pip install torch" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--compute", "float16"], "--compute float16: known are float32 and bfloat16"),
            (["--batch", "0"], "--batch must be 1 or more, not 0"),
            (["--steps", "0"], "--steps must be 1 or more, not 0"),
            (["--cases", "0"], "--cases must be 1 or more, not 0"),
            (["--torch", "--stage", "region"], "only the disc stage is written in PyTorch, not region"),
            (["--torch", "--set", "disc.outputs=[disc, vertebra, canal]"], "PyTorch outlines discs alone"),
        ],
    )
    def test_options_that_cannot_be(self, path, capsys, arguments, message):
        assert train_step.main(["--config", str(path), *arguments]) == 2
        assert message in capsys.readouterr().err

    def test_a_network_that_is_not_written_in_pytorch(self, path, capsys):
        pytest.importorskip("torch", reason="PyTorch is not installed; pip install torch to compare with it")
        assert train_step.main(["--config", str(path), "--torch", "--set", "disc.network.pyramid=serial"]) == 2
        assert "--torch: the network in PyTorch is the paper's" in capsys.readouterr().err


def test_pytorch_takes_the_same_steps(config, training):
    """Loss, Dice, gradient's norm and parameters of three steps, beyond the end of cross-entropy."""
    pytest.importorskip("torch", reason="PyTorch is not installed; pip install torch to compare with it")
    import optax

    from benchmarks.torch_disc_net import TorchDiscNet
    from benchmarks.torch_train_step import TorchTraining
    from ivdjax.learning.losses import path_losses
    from ivdjax.learning.optimizer import build_optimizer, learning_rate_schedule

    ours, stage = training, config.disc
    rates = np.array([learning_rate_schedule(stage.optimizer, stage.training.steps)(step) for step in range(3)])
    theirs = TorchTraining(stage, ours.params, ours.batch, rates)
    optimizer = build_optimizer(stage.optimizer, stage.training.steps)
    image, target, mask = ours.batch[:3]

    def loss_of(params, gamma):
        fused, auxiliary = ours.network.apply({"params": params}, image)
        total, count = path_losses(fused, auxiliary, target, mask, stage.loss.alpha, gamma, stage.loss.auxiliary)
        return total / count

    params, state = ours.params, optimizer.init(ours.params)
    gradient_of = jax.jit(jax.value_and_grad(loss_of))
    for step, gamma in enumerate((0.0, 1.5, 1.5)):
        loss, gradients = gradient_of(params, gamma)
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        found = theirs.step()
        assert float(found["loss"]) == pytest.approx(float(loss), rel=1e-4)
        assert float(found["gradient_norm"]) == pytest.approx(float(optax.tree.norm(gradients)), rel=1e-3), step
    wanted = TorchDiscNet(stage.network, 2)
    wanted.load_flax(params)
    for name, value in wanted.named_parameters():
        np.testing.assert_allclose(
            dict(theirs.network.named_parameters())[name].detach(), value.detach(), atol=2e-4, err_msg=name
        )
