"""Pictures go through a network some at a time, with the answers of one run."""

from __future__ import annotations

import numpy as np
import pytest

from worker.faces.nets import PIXELS_AT_ONCE, load_nets, packaged_nets


@pytest.mark.parametrize(("place", "height", "width"), [(0, 60, 80), (1, 24, 24), (2, 48, 48)])
def test_any_number_of_pictures_gives_the_answers_of_each(place: int, height: int, width: int) -> None:
    net = load_nets(packaged_nets())[place]
    count = 2 * (PIXELS_AT_ONCE // (height * width)) + 1
    pictures = np.random.default_rng(place).uniform(0, 255, (count, height, width, 3)).astype(np.float32)
    together, alone = net(pictures), [net(picture[None]) for picture in pictures]
    for number, output in enumerate(together):
        np.testing.assert_allclose(output, np.concatenate([answer[number] for answer in alone]), atol=1e-5)
    assert len(net(pictures[:0])[0]) == 0
