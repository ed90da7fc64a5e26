"""What every method and every allowed pair promises the loop."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import paddle
import pytest

import regularizers
from regularizers import REGULARIZERS, create
from regularizers.losses import cross_entropy
from tests.regularizers.toys import arrays, optimizer_of, same, toy_batch, toy_setup, train
from training.optimizer import Optimizer
from training.schedule import Schedule
from utils.errors import UsageError

SHORT = {"clean_tail": 4, "cutmix_prob": 1.0, "reinits": 4}  # of 20 steps, so that everything happens
# another value for each argument, with what it needs to matter
CHANGES = {
    "alpha": 2.0,
    "reg_lambda": 0.5,
    "aux_lambda": 0.9,
    "ema_decay": 0.5,
    "ema_every": 3,
    "ema_bn_stats": False,
    "clean_tail": 15,
    "cutmix_alpha": 0.2,
    "cutmix_prob": 0.0,
    "sp_lambda": 0.3,
    "sp_head_lambda": 0.3,
    "sp_bn": False,
    "bss_lambda": 0.5,
    "bss_k": 4,
    "reinits": 2,
    "delta_lambda": 0.5,
    "delta_form": "official",
    "delta_head_lambda": 0.5,
    "attention": "uniform",
    "attention_batches": 1,
    "cot_lambda": 0.1,
    "relationship": "reverse",
    "temperature": 0.2,
    "distance": 0.01,
    "head_distance": 0.1,
    "distance_growth": 0.01,
    "self_label": True,
    "label_threshold": 0.1,
    "correct_epoch": 1,
    "reweight_epoch": 1,
    "reweight_temp": 0.3,
}
NEEDS = {
    "sp_bn": {"sp_lambda": 0.5},
    "distance_growth": {"distance": 0.01},
    **{name: {"self_label": True} for name in ("reweight_epoch", "reweight_temp")},
    "label_threshold": {"self_label": True, "correct_epoch": 1},
    "correct_epoch": {"self_label": True, "label_threshold": 0.1},
}
NEEDS["reweight_temp"] = {"self_label": True, "reweight_epoch": 1}


def names():
    pairs = itertools.permutations(REGULARIZERS, 2)
    return [*REGULARIZERS, *("+".join(pair) for pair in pairs)]


def made(name, **values):
    own = regularizers.arguments(name)
    return create(name, **{key: value for key, value in {**SHORT, **values}.items() if key in own})


def allowed():
    found = []
    for name in names():
        try:
            made(name)
            found.append(name)
        except UsageError:
            pass
    return found


def prepared(name, tmp_path, **values):
    setup = toy_setup(tmp_path)
    method = made(name, **values)
    method.prepare(setup)
    return setup, method


@pytest.mark.parametrize("name", allowed())
def test_trains_with_finite_named_terms_and_leaves_the_source(name, tmp_path):
    setup, method = prepared(name, tmp_path)
    source, student = arrays(setup.source), arrays(setup.model)
    terms = train(setup, method, 3)
    assert set(terms) <= {"ce", *method.requirements().terms}
    assert all(np.isfinite(value) for value in terms.values())
    assert same(arrays(setup.source), source)
    assert not same(arrays(setup.model), student)


@pytest.mark.parametrize("name", allowed())
def test_loss_changes_neither_student_nor_method(name, tmp_path):
    setup, method = prepared(name, tmp_path)
    batch = method.transform(toy_batch(setup), 0)
    outputs = setup.model(batch.images)
    student, own = arrays(setup.model), arrays(method)
    for term in method.loss(setup.model, batch, outputs, 0).values():
        assert list(term.shape) == []
    assert same(arrays(setup.model), student)
    assert same(arrays(method), own)


@pytest.mark.parametrize("name", allowed())
def test_a_state_taken_back_continues_bit_for_bit(name, tmp_path):
    setup, method = prepared(name, tmp_path)
    optimizer = optimizer_of(setup, method)
    train(setup, method, 7, optimizer)
    state = copy.deepcopy([arrays(setup.model), arrays(method)])
    slots = {key: value.numpy().copy() for key, value in optimizer.state_dict().items()}
    schedule = optimizer.schedule.state_dict()
    train(setup, method, 8, optimizer, first=7)

    other, again = prepared(name, tmp_path)
    second = optimizer_of(other, again)
    other.model.set_state_dict(state[0])
    again.set_state_dict(state[1])
    second.set_state_dict(slots, schedule)
    train(other, again, 8, second, first=7)
    assert same(arrays(setup.model), arrays(other.model))
    assert same(arrays(method), arrays(again))


@pytest.mark.parametrize("name", REGULARIZERS)
def test_the_checkpoint_holds_no_second_student(name, tmp_path):
    setup, method = prepared(name, tmp_path)
    train(setup, method, 2)
    student = {id(tensor) for tensor in setup.model.parameters()}
    assert not student & {id(tensor) for tensor in method.parameters()}
    values = {tensor.numpy().tobytes() for name, tensor in setup.model.state_dict().items() if tensor.size > 64}
    assert not values & {tensor.numpy().tobytes() for tensor in method.state_dict().values()}


@pytest.mark.parametrize("name", ["l2", "smile", "smile+rifle", "rifle+smile", "mixup+delta"])
def test_the_average_of_the_student_is_where_the_method_says(name, tmp_path):
    setup, method = prepared(name, tmp_path)
    assert bool(method.averaged) == ("smile" in name)
    assert create(name).averaged == method.averaged  # a checkpoint is read without its hyper-parameters
    if method.averaged:
        network = dict(method.named_sublayers())[method.averaged]
        state = method.state_dict()
        assert all(f"{method.averaged}.{tensor}" in state for tensor in network.state_dict())
        assert network.state_dict().keys() == setup.model.state_dict().keys()


@pytest.mark.parametrize("name", REGULARIZERS)
def test_gradient_reaches_only_what_is_trained(name, tmp_path):
    setup, method = prepared(name, tmp_path)
    batch = method.transform(toy_batch(setup), 0)
    terms = method.loss(setup.model, batch, setup.model(batch.images), 0)
    for term in terms.values():
        if not term.stop_gradient:
            term.backward(retain_graph=True)
    for tensor in [*setup.source.parameters(), *(p for p in method.parameters() if p.stop_gradient)]:
        assert tensor.grad is None


def gradients(name, tmp_path, accum, seed=0, **values):
    """Return what the optimizer would be given at step 1, the batch taken in `accum` parts."""
    setup = replace(toy_setup(tmp_path), accum=accum)
    method = made(name, **values)
    method.prepare(setup)
    setup.model.eval()  # no batch statistics
    rates = {"wd": 0.0, "cls_lambda": 0.0, "head_lr_mult": 1.0}
    optimizer = Optimizer(setup.model, method, Schedule(0.1, 9), **rates, accum=setup.accum)
    for part in method.transform(toy_batch(setup, seed=seed), 1).micro_batches(accum):
        outputs = setup.model(part.images)
        terms = {"ce": cross_entropy(outputs.logits, part.targets)}
        terms.update(method.loss(setup.model, part, outputs, 1))
        optimizer.backward(sum(terms.values()))
    optimizer.sync_gradients()
    return {name: p.grad.numpy() for name, p in optimizer.parameters.items() if p.grad is not None}


def difference(first, second):
    """Return the largest difference of two results of `gradients`, relative to the tensor's largest value."""
    assert first.keys() == second.keys()
    return max(np.abs(first[name] - second[name]).max() / (np.abs(first[name]).max() + 1e-6) for name in first)


@pytest.mark.parametrize("name", [*REGULARIZERS, "mixup+delta", "cutmix+cotuning", "bss+smile"])
def test_parts_of_a_batch_have_its_gradients_or_are_refused(name, tmp_path):
    if made(name).requirements().whole_batch:
        assert {"bss", "smile"} & set(name.split("+"))
        return
    for accum in (2, 8):  # rounding depends on the size of a batch and may move a ReLU of one, not of both
        pairs = ((gradients(name, tmp_path, count, seed) for count in (1, accum)) for seed in (0, 1))
        assert min(difference(*pair) for pair in pairs) < 1e-2, accum


@pytest.mark.parametrize(
    ("name", "values"),
    [("bss", {"bss_lambda": 1.0}), ("regsl", {"self_label": True, "reweight_epoch": 1, "reweight_temp": 0.3})],
)
def test_what_is_refused_in_parts_would_have_other_gradients(name, values, tmp_path):
    assert made(name, **values).requirements().whole_batch
    assert difference(gradients(name, tmp_path, 1, **values), gradients(name, tmp_path, 2, **values)) > 0.05


@pytest.mark.parametrize(
    ("name", "argument"), [(name, argument) for name in REGULARIZERS for argument in regularizers.arguments(name)]
)
def test_every_argument_changes_something(name, argument, tmp_path):
    def result(**values):
        setup, method = prepared(name, tmp_path, **values)
        train(setup, method, 12)
        return {**arrays(setup.model), **{f"own.{key}": value for key, value in arrays(method).items()}}

    needs = NEEDS.get(argument, {})
    changed = {**needs, argument: CHANGES[argument]}
    assert not same(result(**needs), result(**changed))


@pytest.mark.parametrize("name", REGULARIZERS)
def test_every_argument_is_described(name):
    assert list(regularizers.descriptions(name)) == list(regularizers.arguments(name))


def test_every_pair_is_allowed_or_refused_with_a_reason():
    for name in names():
        if name not in allowed():
            with pytest.raises(UsageError, match=f"{name.split('+')[0]} and {name.split('+')[1]} cannot be one: .+"):
                made(name)


def test_no_method_is_named_outside_its_place():
    from tests.scripts import ROOT

    for path in [*ROOT.glob("*.py"), *(ROOT / "utils").glob("*.py"), *(ROOT / "datasets").glob("*.py")]:
        if path.name in ("embedded.py", "reproduce.py"):  # recipes: the source network's own training is one
            continue
        words = path.read_text().replace("finetune.py --regularizer smile", "")
        for name in set(REGULARIZERS) - {"l2", "fe"}:
            assert f'"{name}"' not in words, path


def test_a_mixed_batch_stays_a_batch_of_distributions(tmp_path):
    for name in REGULARIZERS:
        if made(name).requirements().mixes:
            setup, method = prepared(name, tmp_path)
            batch = method.transform(toy_batch(setup), 1)
            assert list(batch.images.shape) == [8, 3, 16, 16]
            np.testing.assert_allclose(batch.targets.sum(axis=1).numpy(), 1, rtol=1e-6)
            assert paddle.all(batch.targets >= 0)
