import base64
import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest

from numcore.algorithms.tour import _page, _stop, _transport_contest, transport
from numcore.algorithms.tour._page import Outcome
from numcore.algorithms.tour._race import race
from numcore.algorithms.tour._stop import Code, Picture, Pictures, Stop, Table, Text
from numcore.algorithms.tour.cli import main

DOT = Picture(base64.b64decode("R0lGODlhAQABAAAAACw="), "image/gif", "a <dot>", 'a "dot"')
BLOCKS = [Text("one & two\n\nthree"), Code("x < y"), Pictures([DOT]), Table("of", ["", "n"], [["a", "1"]])]


def good(progress):
    progress("at work")
    return BLOCKS


def bad(progress):
    raise ValueError("no <such> colour")


def interrupted(progress):
    raise KeyboardInterrupt


@pytest.fixture
def stops(monkeypatch):
    """The tour's stops, replaced: set them in the dict."""
    table = {"alpha": Stop("The first", good)}
    monkeypatch.setattr(_stop, "names", lambda: list(table))
    monkeypatch.setattr(_stop, "load", lambda name: table[name])
    return table


@pytest.fixture
def output(tmp_path):
    return tmp_path / "page.html"


def tour(output, *options):
    return main(["tour", "--output", str(output), *options])


class Loads(HTMLParser):
    """All that a page would load, and its tags."""

    def __init__(self, html):
        super().__init__()
        self.addresses, self.tags, self.open = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.addresses += [v for k, v in attributes if k in ("src", "href", "srcset", "data", "poster", "action")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_tour_writes_the_page_and_prints_where(stops, output, capsys):
    assert tour(output) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(output)
    assert "[1/1] alpha" in err
    assert "at work" in err
    assert "The first" in output.read_text(encoding="utf-8")
    assert list(output.parent.iterdir()) == [output]


def test_default_output_is_in_the_current_folder(stops, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["tour"]) == 0
    assert (tmp_path / "numcore-tour.html").exists()


def test_existing_output_is_refused_before_any_work(stops, output, capsys):
    stops["alpha"] = Stop("", lambda progress: pytest.fail("the work was begun"))
    output.write_text("mine")
    assert tour(output) == 2
    assert "--force" in capsys.readouterr().err
    assert output.read_text() == "mine"


def test_force_overwrites(stops, output):
    output.write_text("mine")
    assert tour(output, "--force") == 0
    assert "The first" in output.read_text(encoding="utf-8")


@pytest.mark.parametrize("place", [".", "missing/page.html"])
def test_output_that_cannot_be_written_is_refused_before_any_work(stops, tmp_path, place, capsys):
    assert tour(tmp_path / place, "--force") == 2
    assert "folder" in capsys.readouterr().err


def test_missing_matplotlib_is_told_before_any_work(stops, output, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    assert tour(output) == 2
    assert "numcore-algorithms[plot]" in capsys.readouterr().err
    assert not output.exists()


def test_failing_stop_is_on_the_page_and_in_the_exit_code_and_hides_no_other(stops, output, capsys):
    stops.clear()
    stops.update(alpha=Stop("Broken", bad), beta=Stop("Whole", good))
    assert tour(output) == 1
    page = output.read_text(encoding="utf-8")
    assert "ValueError: no &lt;such&gt; colour" in page
    assert "Failed: alpha" in page
    assert "Whole" in page
    assert "at work" in capsys.readouterr().err


def test_stop_that_cannot_be_imported_is_a_failing_stop(stops, output, monkeypatch):
    def load(name):
        raise ImportError("no module")

    monkeypatch.setattr(_stop, "load", load)
    assert tour(output) == 1
    assert "no module" in output.read_text(encoding="utf-8")


def test_traceback_on_the_page_names_no_folder_of_the_user():
    try:
        bad(None)
    except ValueError as failure:
        page = _page.page([Outcome("alpha", "", 0.0, failure=failure)], [])
    assert "tests/tour/test_tour.py" in page
    assert "raise ValueError" in page
    assert not re.search(r"File &quot;(/|[A-Z]:)", page)


def test_interrupt_leaves_no_page(stops, output):
    stops["alpha"] = Stop("", interrupted)
    assert tour(output) == 130
    assert list(output.parent.iterdir()) == []


def test_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        _page.write(path, "half a page \ud800")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_only_picks_stops(stops, output):
    stops["beta"] = Stop("The second", good)
    assert tour(output, "--only", "beta") == 0
    page = output.read_text(encoding="utf-8")
    assert "The second" in page
    assert "The first" not in page


@pytest.mark.parametrize("arguments", [[], ["sail"], ["tour", "--only", "nowhere"]])
def test_unknown_commands_and_stops_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: numcore" in capsys.readouterr().err


def test_info_prints_the_configuration(capsys):
    assert main(["info"]) == 0
    assert "backend" in capsys.readouterr().out


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert re.fullmatch(r"numcore \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_page_is_well_formed_and_loads_nothing():
    html = _page.page([Outcome("alpha", "The <first>", 1.0, BLOCKS)], [("Python", "3 & more")])
    loads = Loads(html)
    assert loads.open == []
    assert len(loads.addresses) == 1
    assert loads.addresses[0].startswith("data:image/gif;base64,")
    assert not {"script", "link", "iframe", "object"} & set(loads.tags)
    assert not re.search(r"@import|url\(|https?://", html)
    assert "The &lt;first&gt;" in html
    assert "<p>three</p>" in html


def test_stops_are_the_modules_of_the_package():
    assert "transport" in _stop.names()
    assert not any(name.startswith("_") or name == "cli" for name in _stop.names())
    assert all(isinstance(_stop.load(name), Stop) for name in _stop.names())


def test_help_imports_neither_matplotlib_nor_scikit_learn_nor_numba():
    code = (
        "import sys; from numcore.algorithms.tour.cli import _parser; _parser().format_help();"
        "print({'matplotlib', 'sklearn', 'numba', 'ot'} & set(sys.modules) or 'none')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "none"


def test_race_runs_all_in_turn_and_keeps_what_the_last_round_gave():
    order = []
    timed = race({name: lambda name=name: order.append(name) or len(order) for name in "ab"}, rounds=3)
    assert order == list("ababab")
    assert (timed["a"].result, timed["b"].result) == (5, 6)
    assert timed["a"].rounds == 3


def test_race_ends_early_when_another_round_would_pass_the_budget():
    assert race({"a": lambda: None}, rounds=3, budget=0.0)["a"].rounds == 1


# the stop of transport


@pytest.fixture(scope="module")
def photos():
    return transport.Photographs.load(sample=300, every=10)


@pytest.fixture(scope="module")
def recoloured(photos):
    return transport.transfer(photos)


def moments(image):
    pixels = image.reshape(-1, 3)
    return pixels.mean(axis=0), np.cov(pixels.T)


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_recoloured_photograph_has_the_mean_and_covariance_of_the_other(photos, recoloured, way):
    pair = [photos.first, photos.second]
    source, target = pair if way == "forward" else pair[::-1]
    moved = np.clip(recoloured[0 if way == "forward" else 1], 0, 1)
    assert moved.shape == source.shape
    for of_source, of_moved, of_target in zip(*map(moments, (source, moved, target)), strict=True):
        assert np.linalg.norm(of_moved - of_target) < 0.35 * np.linalg.norm(of_source - of_target)


def test_recoloured_photograph_keeps_light_and_shade(photos, recoloured):
    # neighbours that were alike stay alike: the structure of the picture is the source's
    for image, moved in zip((photos.first, photos.second), recoloured[:2], strict=True):
        grey, moved_grey = image.mean(axis=2), moved.mean(axis=2)
        assert np.corrcoef(grey.ravel(), moved_grey.ravel())[0, 1] > 0.6


def test_colour_distance_is_zero_on_itself_and_the_length_of_a_shift_seen_from_all_sides():
    X = np.random.default_rng(0).uniform(0.2, 0.5, (500, 3))
    assert _transport_contest.colour_distance(X, X) == 0
    # the mean length of the shadow of a unit vector on a random line in space is 1/2
    distance = _transport_contest.colour_distance(X, X + np.array([0.1, 0, 0]), directions=4000)
    assert distance == pytest.approx(255 * 0.1 / 2, rel=0.05)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::UserWarning")
def test_stop_gives_pictures_and_a_table_in_which_all_reach_the_error():
    from matplotlib.image import imread

    said = []
    blocks = transport.run(said.append, sample=100, every=20, timed=2)
    pictures = [picture for block in blocks if isinstance(block, Pictures) for picture in block.pictures]
    photographs = [imread(BytesIO(p.data), format="jpg") for p in pictures if p.media_type == "image/jpeg"]
    assert [image.shape for image in photographs] == [(22, 32, 3)] * 4
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert {"numcore", "NumPy and SciPy script"} <= {name for name, *_ in table.rows}
    error = table.heads.index("L1 error")
    assert all(float(row[error]) <= transport.ERROR for row in table.rows if row[error])
    assert said[-1] == "drawing"


def test_script_and_numcore_map_colours_alike(photos):
    # plans to an L1 error of 1e-6 of colours in [0, 1]: the maps differ by no more than float32 and that leave
    problem = (photos.X, photos.Y, 0.08, 1e-6)
    ours, script = _transport_contest.by_numcore(*problem), _transport_contest.by_script(*problem)
    for way in ("forward", "backward"):
        colours = photos.first.reshape(-1, 3)
        np.testing.assert_allclose(getattr(ours, way)(colours), getattr(script, way)(colours), atol=1e-3)


def test_missing_peer_is_a_line_in_the_table(photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    colours = photos.first.reshape(-1, 3)[::10]
    problem = _transport_contest.Problem(colours, colours, photos.X, photos.Y, 0.08, 1e-3)
    ours, *peers = _transport_contest.contest(problem, lambda text: None)
    absent = [score for score in peers if score.absent]
    assert [score.name for score in absent] == ["POT, log form", "POT, kernel form"]
    assert all("not installed" in _transport_contest.row(score, ours)[1] for score in absent)
    assert all("no comparison" in _transport_contest.verdict(score, ours) for score in absent)


def test_a_lost_race_is_called_lost():
    ours, peer = (_transport_contest.Score(name, fit=fit, map=1.0) for name, fit in (("numcore", 3.0), ("peer", 1.0)))
    assert _transport_contest.verdict(peer, ours).startswith("Against peer: in all NUMCORE LOSES 1 to 2")
    assert "numcore wins 2 to 1" in _transport_contest.verdict(ours, peer)
    assert "map even" in _transport_contest.verdict(peer, ours)
