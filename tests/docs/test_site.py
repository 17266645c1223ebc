"""What checks the built site finds what is wrong with one."""

from tools.scripts import script

check_site = script("tools/check_site.py")
SOUND = """<link rel="stylesheet" href="style.css"><script src="search.js"></script>
<h1 id="top">A</h1><img src="data:image/png;base64,AA==">
<a href="#top">here</a><a href="b.html#part%201">there</a><a href="https://example.org/x">out</a>
"""


def write(place, **files):
    for name, text in files.items():
        (place / name.replace("__", ".")).write_text(text, encoding="utf-8")


def test_a_sound_site_has_no_fault(tmp_path):
    write(tmp_path, a__html=SOUND, b__html='<p id="part 1">', style__css="p {}", search__js="")
    assert check_site.faults(tmp_path) == []


def test_dead_links_and_what_is_loaded_from_the_network_are_found(tmp_path):
    loading = '<script src="https://example.org/a.js"></script><a href="gone.html">x</a>'
    css = '@import "https://example.org/font.css"; p {background: url(//example.org/a.png)}'
    write(tmp_path, a__html=SOUND, b__html=loading, style__css=css)
    assert check_site.faults(tmp_path) == [
        "a.html links to b.html#part%201, which has no such place",
        "a.html links to search.js, which is not there",
        "b.html links to gone.html, which is not there",
        "b.html loads https://example.org/a.js",
        "style.css loads //example.org/a.png",
        "style.css loads https://example.org/font.css",
    ]
    assert check_site.faults(tmp_path / "empty") == [f"{tmp_path / 'empty'} has no page"]


def test_every_way_to_load_or_to_lead_is_seen(tmp_path):
    (tmp_path / "site").mkdir()
    write(tmp_path, outside__txt="")
    page = """<meta name="viewport"><a href="#viewport">a</a><a href="../outside.txt">b</a>
<a href="http://[bad">c</a><img srcset="https://example.org/1.png 1x, gone.png 2x">
<video poster="https://example.org/2.png"></video><object data="gone.svg"></object>
<p style="background: URL('https://example.org/3.png')"></p>
<style>@import "https://example.org/4.css";</style><svg><use xlink:href="#here"/></svg>"""
    write(tmp_path / "site", a__html=page, b__css="p {background: url(gone.png)}")
    found = check_site.faults(tmp_path / "site")
    for part in (
        "#viewport, which has no such place",
        "../outside.txt, which is not there",
        "http://[bad, which is none",
        "loads https://example.org/1.png",
        "links to gone.png, which is not there",
        "loads https://example.org/2.png",
        "links to gone.svg, which is not there",
        "loads https://example.org/3.png",
        "loads https://example.org/4.css",
    ):
        assert [fault for fault in found if fault.startswith("a.html") and part in fault], part
    assert "b.css links to gone.png, which is not there" in found
    assert len(found) == 10
