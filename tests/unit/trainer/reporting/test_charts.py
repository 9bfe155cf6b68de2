from trainer.reporting.charts import line_charts, run_charts


def epochs(values, other=None):
    rows = [{"epoch": number, "train_elbo": value} for number, value in enumerate(values, 1)]
    return [row | {"test_elbo": value} for row, value in zip(rows, other or values, strict=True)]


def ticks(chart):
    return [float(tick.label.replace(",", "").replace("\N{MINUS SIGN}", "-")) for tick in chart.value_ticks]


def test_a_first_epoch_far_from_the_others_does_not_flatten_the_curves():
    improving = [200.0 + number for number in range(7)]
    (chart, *_) = line_charts(epochs([-9_000.0, *improving], [190.0, *improving]))
    assert min(ticks(chart)) > 100
    assert chart.clipped


def test_every_run_ends_within_the_chart():
    runs = {name: (name, epochs([value] * 6)) for name, value in (("a", 1.0), ("b", 2.0), ("c", 500.0))}
    runs["short"] = ("d", epochs([-300.0]))
    (chart, *_) = run_charts(runs)
    assert not chart.clipped
    assert min(ticks(chart)) <= -200 and max(ticks(chart)) >= 400
