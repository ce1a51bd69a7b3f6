"""A log that is not a terminal gets a line every so often."""

from __future__ import annotations

from vitreous.training.plain_log import PlainLog


def test_a_line_comes_once_an_interval_and_tells_rate_and_time_left():
    now = [100.0]
    log = PlainLog(1000, 200, 8, every=30, clock=lambda: now[0])
    figures = {"loss": 0.51234, "lr": 3e-6}
    now[0] = 129.0
    assert log.line(229, figures) is None
    now[0] = 140.0
    line = log.line(220, figures)
    # 20 steps of 8 images in 40 s; 780 steps are left.
    assert line == "step 220 of 1000: loss 0.5123, lr 3e-06, 4 images/s, 0:26:00 left"
    now[0] = 169.0
    assert log.line(300, figures) is None
    now[0] = 180.0
    assert log.line(300, figures) == (
        "step 300 of 1000: loss 0.5123, lr 3e-06, 16 images/s, 0:05:50 left"
    )
