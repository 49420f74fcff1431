"""report.html in headless Chromium: it renders without console messages and fits narrow and wide screens."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from semipose.config import load_config
from semipose.reports.html import write_report
from semipose.studies.grid import StudyGrid
from semipose.trainer import train

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path")]

MEASURE = """
<script>
for (const image of document.images) image.loading = "eager";
const loaded = (image) => image.complete || new Promise((done, failed) => {
  image.onload = done;
  image.onerror = failed;
});
Promise.all([...document.images].map(loaded)).then(() => {
  const images = [...document.images].map((image) => {
    const box = image.getBoundingClientRect();
    return [image.naturalWidth, box.width, box.height, box.left, box.right];
  });
  const page = document.documentElement.scrollWidth;
  document.querySelector("figure img").click();
  const found = { inner: innerWidth, page, images, enlarged: document.querySelector("dialog[open] img").src.length };
  parent.postMessage(JSON.stringify(found), "*");
}, (error) => console.error(error));
</script>
"""

FRAME = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><pre id="found"></pre>
<iframe style="width:{width}px;height:800px;border:0"></iframe>
<script>
onmessage = (event) => {{ document.getElementById("found").textContent = event.data; }};
document.querySelector("iframe").srcdoc = {page};
</script>"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory, tiny_run):
    """The reports of a run, of a study with one of two runs finished, and of two runs beside each other."""
    folder = tmp_path_factory.mktemp("browser")
    run, study = folder / "run", folder / "study"
    train(load_config(None, {**tiny_run, "data.labels": 30, "data.validation": 12, "method": "trs"}), run)
    (study / "runs").mkdir(parents=True)
    rows = {name: {"options": {"method": name}} for name in ("trs", "single")}
    grid = StudyGrid(title="A study", shared=tiny_run, rows=rows, labels=[30])
    (study / "study.json").write_text(grid.model_dump_json())
    (study / "runs" / "trs-30-0").symlink_to(run)
    compared = write_report({"ours": run, "theirs": run}, folder / "compared")
    return {"run": write_report(run), "study": write_report(study), "compared": compared}


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("name", ["run", "study", "compared"])
def test_page(reports, name, width, tmp_path):
    page = reports[name].read_text(encoding="utf-8") + MEASURE
    frame = tmp_path / "frame.html"
    quoted = json.dumps(page).replace("</script>", "<\\/script>")
    frame.write_text(FRAME.format(width=width, page=quoted), encoding="utf-8")
    for attempt in range(3):  # the browser's virtual time may end before a busy machine has drawn the page
        done = subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1600,900",
             "--enable-logging=stderr", f"--virtual-time-budget={20000 * 4**attempt}",
             f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", frame.as_uri()],
            capture_output=True, text=True, timeout=90, check=True,
        )  # fmt: skip
        assert "CONSOLE" not in done.stderr, done.stderr
        found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout)
        if found:
            break
    assert found, "the page never finished"
    measured = json.loads(unescape(found.group(1)))
    assert measured["inner"] == width
    assert measured["enlarged"] > 100, "a click enlarges no image"
    assert measured["page"] <= width, "the page is wider than the screen"
    assert len(measured["images"]) >= 3
    for natural, shown, height, left, right in measured["images"]:
        assert natural > 0
        assert shown >= 60
        assert height >= 20
        assert left >= 0
        assert right <= width
