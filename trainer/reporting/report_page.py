"""The pieces of HTML that only a run's report has: the last epoch's figures, and a model's caveat."""

from html import escape

from preprocessing.html.numbers import format_number


def figure_table(epoch: dict[str, float]) -> str:
    """Set the last epoch's figures as a table, train beside test."""
    rows = [
        ("ELBO", "nats per clip", "train_elbo", "test_elbo"),
        ("Log-likelihood", "nats per clip", "train_log_likelihood", "test_log_likelihood"),
        ("KL divergence", "nats per clip", "train_kl", "test_kl"),
        ("Signal-to-noise", "dB", "train_snr_db", "test_snr_db"),
    ]
    body = "".join(
        f"<tr><th>{name} <small>{unit}</small></th><td>{format_number(epoch.get(train))}</td>"
        f"<td>{format_number(epoch.get(test))}</td></tr>"
        for name, unit, train, test in rows
    )
    head = "<thead><tr><th></th><th>train</th><th>test</th></tr></thead>"
    return f'<div class="card"><table>{head}<tbody>{body}</tbody></table></div>'


def note_card(note: str) -> str:
    """Set a model's own caveat beside its figures; no note, no card."""
    if not note:
        return ""
    return f'<aside class="card note"><strong>Caveat</strong>{escape(note)}</aside>'
