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
        "style.css loads from the network",
        "style.css loads from the network",
    ]
    assert check_site.faults(tmp_path / "empty") == [f"{tmp_path / 'empty'} has no page"]
