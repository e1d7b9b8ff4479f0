"""The learning rate and alpha of an epoch."""

import pytest

import train_ds


def test_the_learning_rate_falls_after_each_decay_epoch():
    rates = [train_ds.learning_rate_at(epoch, 1e-4, 0.1, [500, 750]) for epoch in (0, 499, 500, 749, 750, 999)]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6])
    assert train_ds.learning_rate_at(7, 1e-3, 0.1, []) == 1e-3


def test_alpha_falls_in_equal_intervals():
    alphas = [train_ds.alpha_at(epoch, 0.33, 0.8, 40) for epoch in (0, 39, 40, 79, 80)]
    assert alphas == pytest.approx([0.33, 0.33, 0.264, 0.264, 0.2112])
