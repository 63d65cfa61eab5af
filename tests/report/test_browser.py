"""The page as seen: headless Chromium at the widths of a desk and of a phone."""

import shutil

import pytest

from moiety import report
from moiety.report.files import load_ledgers
from moiety.report.frames import ORDER, summarize_series
from moiety.report.series import group_series
from moiety.report.text import write_cells
from tests.report.test_hostile import HOSTILE, write_spoiled

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no chromium with chromedriver on PATH"
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield browser
    browser.quit()


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_page_renders(driver, rich, tmp_path, width, height):
    page = report.write_report([rich], tmp_path / "report.html")
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.get(page.as_uri())

    assert driver.get_log("browser") == []
    assert driver.execute_script("return innerWidth") == width
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    sizes = driver.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(svg => {"
        "const box = svg.getBoundingClientRect(); return [box.width, box.height, box.right]})"
    )
    assert len(sizes) == 10  # the metric by rounds, bytes and seconds among them
    assert all(w > 300 and h > 100 and right <= width for w, h, right in sizes)

    shown = driver.execute_script(
        "return [...document.querySelectorAll('#summary tbody tr')].map(row =>"
        "[row.querySelector('.label').innerText,"
        " ...[...row.querySelectorAll('td')].map(cell => cell.innerText)])"
    )
    assert shown == [
        write_cells(row, ORDER) for row in summarize_series(group_series(load_ledgers([rich])))
    ]

    # with every table open, the page still does not scroll sideways
    driver.execute_script("document.querySelectorAll('details').forEach(one => {one.open = true})")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    small = driver.execute_script(
        "return Math.min(...[...document.querySelectorAll('figure svg text')]"
        ".map(text => text.getBoundingClientRect()).map(box => Math.max(box.width, box.height)))"
    )
    assert small > 0


def test_no_script_of_a_ledger_is_run(driver, make, tmp_path):
    for number, text in enumerate(HOSTILE):
        folder = write_spoiled(make, tmp_path / str(number), text)
        page = report.write_report([folder], tmp_path / f"{number}.html")
        driver.get(page.as_uri())
        assert driver.execute_script("return window.hacked") is None


def test_a_script_that_is_put_into_a_page_is_not_run(driver, small, tmp_path):
    page = report.write_report([small], tmp_path / "report.html")
    driver.get(page.as_uri())
    script = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
    page.write_text(page.read_text(encoding="utf8").replace("<main>", f"<main>{script}"))
    driver.get(page.as_uri())
    assert driver.execute_script("return window.hacked") is None
    assert any("Content Security Policy" in line["message"] for line in driver.get_log("browser"))
