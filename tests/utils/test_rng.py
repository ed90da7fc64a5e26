import paddle

from utils.rng import PURPOSES, generator, seed_layers


def test_a_draw_depends_on_seed_purpose_and_position_alone():
    draws = {generator(seed, purpose, step).random() for seed in (0, 1) for purpose in PURPOSES for step in (0, 1, 2)}
    assert len(draws) == 2 * len(PURPOSES) * 3
    assert generator(5, "mix", 7).random() == generator(5, "mix", 7).random()


def test_layers_draw_by_position():
    def drawn(*position):
        seed_layers(1, *position)
        return paddle.rand([1]).item()

    assert drawn(2) == drawn(2) != drawn(3)
    assert drawn(2) == drawn(2, 0) != drawn(2, 1)  # a run of one process is rank 0
