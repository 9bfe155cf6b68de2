"""The page: its tabs, and the server."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from importlib import resources
from pathlib import Path

from preprocessing.errors import UsageError
from trainer.studio.options import MAX_UPLOAD_MB, Options
from trainer.studio.session import Session

# Before Gradio is imported: it reports its use, and looks for a newer version.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Gradio asks its own server whether it runs, which no proxy should answer.
for name in ("NO_PROXY", "no_proxy"):
    os.environ[name] = ",".join(filter(None, [os.environ.get(name), "localhost,127.0.0.1,::1"]))


def serve(options: Options, cache: Path) -> None:
    """Load the run, serve the page and wait until the program is stopped.

    Raises:
        CommandError: An option is wrong or the port is in use (exit code 2), there is no run or no data (3), or storage
            failed (4).
    """
    import gradio as gr

    free_port = _free_port(options.host)  # refuses a host that this machine is not
    port = options.port or free_port
    session = Session(options, cache)
    threading.Thread(target=session.warm_up, daemon=True).start()
    page = build(session)
    templates = resources.files("trainer.studio") / "templates"
    try:
        _, url, _ = page.queue(default_concurrency_limit=4).launch(
            server_name=options.host,
            server_port=port,
            auth=list(options.users) or None,
            max_file_size=f"{MAX_UPLOAD_MB}mb",
            css=(templates / "studio.css").read_text(),
            head=(templates / "player.html").read_text(),
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            footer_links=[],
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            ssr_mode=False,
        )
    except (OSError, ValueError) as error:
        raise UsageError(f"`port` {port} is in use: choose another one, or 0") from error
    print(f"the studio is at {url}; Ctrl-C ends it", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    page.close(verbose=False)


def build(session: Session):  # type: ignore[no-untyped-def]  # a gradio.Blocks, which is imported only here
    """Build the page."""
    import gradio as gr

    from trainer.studio import latent_map_tab, listening_tab, new_music_tab, source_tab, takes_tab

    generator = session.generator
    with gr.Blocks(title="Studio", analytics_enabled=False, fill_width=True) as page:
        gr.Markdown(
            f"## Studio\n{session.options.run}: {generator.sample_rate_hz:,} Hz, checkpoint {generator.checkpoint}"
        )
        takes = gr.State("")
        new_music_tab.add_tab(session, takes)
        source_tab.add_tab(session, takes)
        latent_map_tab.add_tab(session)
        takes_tab.add_tab(session, takes)
        listening_tab.add_tab(session)
    return page


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, 0), family=family) as server:
            return int(server.getsockname()[1])
    except OSError as error:
        raise UsageError(f"`host` {host} is no address of this machine ({error})") from error
