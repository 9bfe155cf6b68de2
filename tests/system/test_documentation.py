"""What the documentation names exists: files, headings, targets of make, and components of the manifests."""

import re

import pytest
from support.cluster.manifests import K8S

ROOT = K8S.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    K8S / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@every_page
def test_links_lead_to_files_and_headings_that_exist(page):
    for target, _, anchor in re.findall(
        r"(?<!!)\[[^]]*\]\((?!https?:)([^)#]*)(#?)([^)]*)\)", page.read_text()
    ):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


@every_page
def test_targets_of_make_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    code = re.findall(r"```sh\n(.+?)```|`(make [^`]+)`", page.read_text(), re.S)
    for text in (part for block in code for part in block):
        for arguments in re.findall(r"^make ([^#&|\n]+)", text, re.M):
            named = {
                word for word in re.sub(r"'[^']*'", "", arguments).split() if re.fullmatch(r"[a-z-]+", word)
            }
            assert named <= targets


def test_the_readme_of_the_manifests_names_every_component_and_overlay():
    text = (K8S / "README.md").read_text()
    for kind in ("components", "overlays"):
        assert set(re.findall(rf"{kind}/([a-z-]+)", text)) == {path.name for path in (K8S / kind).iterdir()}
