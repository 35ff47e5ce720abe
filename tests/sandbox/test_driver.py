"""The driver in its image, from the host's side of the connection."""

import json
import time
from collections.abc import Generator
from textwrap import dedent

import pytest

from tests.sandbox.driving import DATA, HEAD, JSON, Driving, driving

pytestmark = pytest.mark.docker

PNG = b"\x89PNG\r\n\x1a\n"
PLOT = "import matplotlib.pyplot as plt; plt.plot([1, 2]);"
# What a cell does to speak to the driver in the kernel's place.
FORGE = """
import os, json, stat, struct
channel = next(
    fd for fd in range(3, 99)
    if os.path.exists(f'/proc/self/fd/{fd}') and stat.S_ISSOCK(os.fstat(fd).st_mode)
)
def forge(content, kind=b'J'):
    os.write(channel, struct.pack('!Ic', len(content), kind) + content)
"""


@pytest.fixture(scope="module")
def driver() -> Generator[Driving]:
    """Used by many tests, which leave it fit for use."""
    with driving() as driver:
        yield driver


@pytest.fixture
def new_driver() -> Generator[Driving]:
    with driving() as driver:
        yield driver


def test_the_value_of_the_last_expression_is_shown(driver: Driving) -> None:
    ran = driver.run("print('first')\n6 * 7")
    assert (ran.text, ran.ending) == ("first\n42\n", "ok")
    assert ran.done["state_lost"] is False
    assert ran.done["cut"] == 0


def test_a_semicolon_silences_the_last_expression(driver: Driving) -> None:
    assert driver.run("6 * 7;").text == ""


def test_variables_and_imports_are_there_in_the_next_cell(driver: Driving) -> None:
    driver.run("import math\nradius = 2")
    assert driver.run("round(math.pi * radius, 2)").text == "6.28\n"


def test_a_cell_may_await(driver: Driving) -> None:
    assert driver.run("import asyncio\nawait asyncio.sleep(0, 'rested')").text == "'rested'\n"


def test_an_exception_is_a_traceback_without_colours(driver: Driving) -> None:
    ran = driver.run("def f():\n    return 1 / 0\nf()")
    assert ran.ending == "error"
    assert ran.text.endswith("ZeroDivisionError: division by zero\n")
    assert "----> 2     return 1 / 0" in ran.text
    assert "\x1b" not in ran.text


def test_a_syntax_error_is_an_error(driver: Driving) -> None:
    ran = driver.run("for")
    assert ran.ending == "error"
    assert "SyntaxError" in ran.text


def test_streams_and_other_processes_are_in_the_order_of_their_writing(driver: Driving) -> None:
    code = """
import subprocess, sys
print("one")
print("two", file=sys.stderr)
subprocess.run(["echo", "three"])
!echo four
print("five")
"""
    assert driver.run(code).text == "one\ntwo\nthree\nfour\nfive\n"


def test_text_that_is_no_unicode_is_escaped(driver: Driving) -> None:
    ran = driver.run(r"print('\ud800'); raise ValueError('\udfff')")
    assert ran.text.startswith("\\ud800\n")
    assert ran.text.endswith("ValueError: \\udfff\n")
    assert driver.run(r"'\ud800'").text == "'\\ud800'\n"


def test_bytes_that_are_no_text_are_replaced(driver: Driving) -> None:
    assert driver.run(r"import os; os.write(1, b'\xff\n');").text == "�\n"


def test_nobody_answers_questions(driver: Driving) -> None:
    ran = driver.run("name = input('Your name? ')")
    assert ran.ending == "error"
    assert ran.text.endswith(
        "RuntimeError: input() is not available: nobody can answer. Write the value into the code instead.\n"
    )
    assert "EOFError" in driver.run("import getpass; getpass.getpass()").text


@pytest.mark.parametrize(
    "code", ["exit()", "quit()", "import sys; sys.exit()", "raise SystemExit(0)"]
)
def test_leaving_ends_the_cell_and_nothing_else(driver: Driving, code: str) -> None:
    driver.run("kept = 1")
    ran = driver.run(f"{code}\nprint('not reached')")
    assert (ran.text, ran.ending) == ("", "ok")
    assert driver.run("kept").text == "1\n"


def test_leaving_with_a_status_is_an_error(driver: Driving) -> None:
    ran = driver.run("import sys; sys.exit('no such column')")
    assert ran.ending == "error"
    assert "SystemExit: no such column" in ran.text


def test_figures_come_in_their_place_in_the_text(driver: Driving) -> None:
    ran = driver.run(f"print('before')\n{PLOT}\nplt.show()\nprint('after')\n{PLOT}")
    assert ran.order == ["text", "picture", "text", "picture"]
    assert all(picture.startswith(PNG) for picture in ran.pictures)


def test_a_figure_is_shown_once_also_when_it_is_the_last_value(driver: Driving) -> None:
    ran = driver.run("fig, ax = plt.subplots(); ax.plot([3, 1]); fig")
    assert len(ran.pictures) == 1
    assert len(driver.run("ax.set_title('later'); fig").pictures) == 1
    assert driver.run("1").pictures == []


def test_a_figure_that_changed_since_it_was_displayed_is_shown_again(driver: Driving) -> None:
    ran = driver.run("fig, ax = plt.subplots(); display(fig); ax.set_title('later');")
    assert len(ran.pictures) == 2


def test_equal_figures_are_all_shown(driver: Driving) -> None:
    assert (
        len(driver.run(f"{PLOT}plt.show(); {PLOT}plt.show(); {PLOT}plt.figure(); {PLOT}").pictures)
        == 4
    )


def test_figures_of_a_backend_without_a_screen_are_shown(driver: Driving) -> None:
    ran = driver.run(f"import matplotlib; matplotlib.use('Agg')\n{PLOT}")
    driver.run("matplotlib.use('module://matplotlib_inline.backend_inline')")
    assert len(ran.pictures) == 1


def test_pictures_that_are_displayed_are_png_or_jpeg(driver: Driving) -> None:
    ran = driver.run(
        """
import io
from PIL import Image as Pixels
from IPython.display import Image
buffer = io.BytesIO(); Pixels.new('RGB', (8, 8), 'red').save(buffer, 'JPEG')
display(Image(buffer.getvalue()), Pixels.new('RGB', (9, 9)))
"""
    )
    assert [picture[:3] for picture in ran.pictures] == [b"\xff\xd8\xff", PNG[:3]]


def test_other_rich_results_fall_back_to_text(driver: Driving) -> None:
    ran = driver.run(
        "from IPython.display import SVG, HTML\n"
        "display(HTML('<b>x</b>'), SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>'))\n"
        "import pandas as pd; pd.DataFrame({'a': [1]})"
    )
    assert ran.pictures == []
    assert ran.text == (
        "<IPython.core.display.HTML object>\n<IPython.core.display.SVG object>\n   a\n0  1\n"
    )


def test_pictures_beyond_their_number_are_left_out_and_said(driver: Driving) -> None:
    ran = driver.run(
        f"for _ in range(5):\n    {PLOT}\n    plt.title(_)\n    plt.show()", max_pictures=2
    )
    assert len(ran.pictures) == 2
    assert ran.text == "[5 pictures were shown, the first 2 are kept.]\n"


def test_a_picture_that_is_too_large_is_a_line_of_text(driver: Driving) -> None:
    ran = driver.run(
        f"from IPython.display import Image\nImage({PNG!r} + bytes(11 * 1024**2), format='png')"
    )
    assert ran.pictures == []
    assert ran.text == "[A picture of 11.0 MB was left out: it may have 10 MB.]\n"


def test_output_beyond_its_bound_is_counted(driver: Driving) -> None:
    ran = driver.run("print('a' * 999_999)", max_output=1000)
    assert ran.text == "a" * 1000
    assert ran.done["cut"] == 999_000


@pytest.mark.parametrize("letter", ["é", "🦉"])
def test_the_bound_counts_characters(driver: Driving, letter: str) -> None:
    ran = driver.run(f"print('{letter}' * 300_000)", max_output=300_000)
    assert ran.text == letter * 300_000
    assert ran.done["cut"] == 1


def test_the_traceback_is_seen_after_too_much_output(driver: Driving) -> None:
    ran = driver.run("print('a' * 100_000)\nraise ValueError('the reason')", max_output=2000)
    assert len(ran.text) == 2000
    assert ran.text.startswith("aaa")
    assert ran.text.endswith("ValueError: the reason\n")


def test_new_and_changed_files_are_named(driver: Driving) -> None:
    ran = driver.run(
        "import os\nos.makedirs('plots/deep')\nopen('plots/deep/a.txt', 'w').write('abc')\nopen('b', 'w');"
    )
    assert ran.done["files"] == [{"path": "b", "size": 0}, {"path": "plots/deep/a.txt", "size": 3}]
    assert driver.run("1").paths == []
    assert driver.run("open('b', 'a').write('!');").done["files"] == [{"path": "b", "size": 1}]


def test_files_that_nobody_kept_are_named_again(driver: Driving) -> None:
    write = "open({!r}, 'w').write('{}');"
    assert driver.run(write.format("one", 1), call="a").paths == ["one"]
    assert driver.run(write.format("two", 22), call="b", kept="a").paths == ["two"]
    driver.put("given", b"1")
    assert driver.run("1", call="c", kept="a").paths == ["two"]
    ran = driver.run(write.format("one", 333), call="d", kept="a")
    assert ran.done["files"] == [{"path": "one", "size": 3}, {"path": "two", "size": 2}]
    assert driver.run("1", call="e", kept="d").paths == []


def test_files_beyond_their_number_are_named_by_the_next_cells(new_driver: Driving) -> None:
    ran = new_driver.run("for n in range(5): open(f'{n}', 'w').close()", max_files=3)
    assert len(ran.paths) == 3
    assert ran.text == (
        "[5 files are new or changed, 3 of them are kept. The others follow with the next calls.]\n"
    )
    rest = new_driver.run("pass", max_files=3)
    assert (rest.text, sorted(ran.paths + rest.paths)) == ("", ["0", "1", "2", "3", "4"])
    assert new_driver.run("pass", max_files=3).paths == []


def test_a_file_that_the_host_cannot_fetch_is_named_again(driver: Driving) -> None:
    driver.run("import os; open('unreadable', 'w').close(); os.chmod('unreadable', 0)")
    assert driver.run("pass").paths == ["unreadable"]
    assert driver.run("os.chmod('unreadable', 0o600)").paths == ["unreadable"]
    assert driver.run("pass").paths == []


def test_a_file_that_the_host_put_is_no_news_until_it_changes(driver: Driving) -> None:
    assert driver.put("given.csv", b"1,2\n")["ev"] == "put"
    ran = driver.run("open('given.csv').read()")
    assert (ran.text, ran.paths) == ("'1,2\\n'\n", [])
    assert driver.run("open('given.csv', 'a').write('3,4');").paths == ["given.csv"]


def test_only_regular_files_with_readable_names_are_listed(new_driver: Driving) -> None:
    ran = new_driver.run(
        r"""
import os, socket
os.symlink('/etc/passwd', 'link'); os.symlink('/etc', 'folder-link'); os.mkfifo('pipe')
socket.socket(socket.AF_UNIX).bind('socket')
open(b'\xff', 'w'); open('new\nline', 'w'); open('plain', 'w')
deep = '/'.join('d' * 9); os.makedirs(deep); open(deep + '/too-deep', 'w')
open('/'.join('d' * 7) + '/deep', 'w');
"""
    )
    assert ran.paths == ["d/d/d/d/d/d/d/deep", "new\nline", "plain"]
    assert [file["path"] for file in new_driver.ask("files")["files"]] == ran.paths


def test_very_many_files_are_bounded_and_said(new_driver: Driving) -> None:
    ran = new_driver.run("for n in range(5000): open(f'{n:05d}', 'w').close()", max_files=10)
    assert len(ran.paths) == 10
    assert ran.text.startswith("[5000 files are new or changed, 10 of them are kept. ")
    listing = new_driver.ask("files")
    assert (len(listing["files"]), listing["complete"]) == (2000, False)


def test_very_long_names_fit_into_a_frame(new_driver: Driving) -> None:
    code = r"""
import os
folder = '/'.join(['\x01' * 255] * 6); os.makedirs(folder)
for n in range(1000): open(f'{folder}/{n}', 'w').close()
"""
    assert 0 < len(new_driver.run(code, max_files=1000).paths) < 1000
    assert new_driver.ask("files")["complete"] is False


@pytest.mark.parametrize("rights", ["0o000", "0o400"])
def test_a_listing_that_misses_a_folder_is_not_complete(driver: Driving, rights: str) -> None:
    driver.run("import os; os.makedirs('closed'); open('closed/a', 'w').close()")
    listing = driver.ask("files")
    assert "closed/a" in [file["path"] for file in listing["files"]]
    assert listing["complete"] is True
    driver.run(f"os.chmod('closed', {rights})")
    listing = driver.ask("files")
    assert "closed/a" not in [file["path"] for file in listing["files"]]
    assert listing["complete"] is False
    driver.run("import shutil; os.chmod('closed', 0o700); shutil.rmtree('closed')")


def test_a_large_file_goes_in_and_out(driver: Driving) -> None:
    content = bytes(range(256)) * 40_000
    driver.put("folder/of/large.bin", content)
    assert driver.get("folder/of/large.bin", len(content)) == content
    driver.run("!rm -r folder")


def test_an_empty_file_goes_in_and_out(driver: Driving) -> None:
    assert driver.put("empty", b"")["ev"] == "put"
    assert driver.get("empty", 0) == b""


def test_what_was_put_takes_the_place_of_a_link_without_following_it(driver: Driving) -> None:
    driver.run("import os; open('target', 'w').write('kept'); os.symlink('target', 'name')")
    driver.put("name", b"new")
    assert driver.run("os.path.islink('name'), open('target').read()").text == "(False, 'kept')\n"


def test_a_folder_in_the_way_is_refused_and_nothing_is_left(driver: Driving) -> None:
    driver.run("os.mkdir('in-the-way')")
    assert driver.put("in-the-way", b"x")["code"] == "bad_path"
    assert driver.run("[name for name in os.listdir() if name.endswith('.part')]").text == "[]\n"


def test_a_folder_that_is_a_link_is_not_followed(driver: Driving) -> None:
    driver.run("os.symlink('/tmp', 'elsewhere')")
    assert driver.put("elsewhere/x", b"x")["code"] == "bad_path"
    driver.run("open('/tmp/secret', 'w').write('abc')")
    refused = driver.get("elsewhere/secret", 3)
    assert isinstance(refused, dict)
    assert refused["code"] == "bad_path"


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../b", "", ".", "a//b", "a\0b"])
def test_paths_lead_nowhere_else(driver: Driving, path: str) -> None:
    assert driver.put(path, b"x")["code"] == "bad_path"
    assert driver.ask("get", path=path, size=1)["code"] == "bad_path"
    assert driver.ask("link", path=path, target="x")["code"] == "bad_path"
    assert driver.ask("link", path="x", target=path)["code"] == "bad_path"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        ("os.symlink('/etc/passwd', path)", "not_a_file"),
        ("os.mkfifo(path)", "not_a_file"),
        ("os.mkdir(path)", "not_a_file"),
        ("__import__('socket').socket(1).bind(path)", "not_a_file"),
        ("open(path, 'w').close(); os.chmod(path, 0)", "not_a_file"),
        ("open(path, 'w').close(); os.truncate(path, 2**26)", "too_large"),
        ("open(path, 'w').write('only')", "changed"),
        ("pass", "missing"),
    ],
)
def test_what_is_no_such_file_is_refused(driver: Driving, make: str, code: str) -> None:
    driver.run("path = 'odd'\n!rm -rf odd")
    driver.run(make)
    refused = driver.get("odd", 100)
    assert isinstance(refused, dict)
    assert refused["code"] == code


def test_a_file_of_holes_is_refused(driver: Driving) -> None:
    driver.run("with open('holes', 'wb') as file: file.truncate(64 << 20)")
    refused = driver.get("holes", 64 << 20)
    assert isinstance(refused, dict)
    assert refused["code"] == "sparse"
    driver.run("with open('holes', 'wb') as file: file.truncate(1000)")
    assert driver.get("holes", 1000) == bytes(1000)


def test_a_file_that_does_not_fit_is_refused_and_its_bytes_are_dropped(driver: Driving) -> None:
    assert driver.put("huge", bytes(200 * 1024**2))["code"] == "no_space"
    assert driver.run("1").text == "1\n"
    assert driver.put("small", b"x")["ev"] == "put"


def test_a_file_that_is_longer_than_announced_is_refused(driver: Driving) -> None:
    assert driver.put("longer", b"four", size=3)["code"] == "too_large"
    assert driver.run("os.path.exists('longer')").text == "False\n"


def test_an_upload_that_is_not_finished_leaves_nothing(driver: Driving) -> None:
    driver.say({"op": "put", "id": "half", "path": "half", "size": 100})
    driver.send(DATA, b"x" * 50)
    assert (
        driver.run("[n for n in os.listdir() if 'half' in n or n.endswith('.part')]").text == "[]\n"
    )


def test_files_and_links_are_removed_and_folders_are_not(driver: Driving) -> None:
    driver.put("gone/first", b"1")
    driver.ask("link", path="gone/second", target="gone/first")
    driver.run("import os; os.symlink('/tmp', 'gone/tmp'); os.mkdir('gone/folder')")
    for path in ("gone/second", "gone/tmp", "gone/first", "gone/first", "nowhere/first"):
        assert driver.ask("remove", path=path)["ev"] == "removed"
    assert driver.ask("remove", path="gone/folder")["ev"] == "fail"
    assert driver.ask("remove", path="../tmp")["code"] == "bad_path"
    assert driver.run("os.listdir('gone'), os.path.isdir('/tmp')").text == "(['folder'], True)\n"


def test_nothing_is_removed_through_a_link(driver: Driving) -> None:
    driver.run("import os; os.mkdir('held'); open('held/x', 'w').close()")
    driver.run("os.symlink('held', 'holding')")
    assert driver.ask("remove", path="holding/x")["ev"] == "fail"
    assert driver.run("os.listdir('held')").text == "['x']\n"


def test_a_link_gives_a_file_a_second_name(driver: Driving) -> None:
    driver.put("first", b"abc")
    assert driver.ask("link", path="deep/er/second", target="first")["ev"] == "linked"
    ran = driver.run("os.readlink('deep/er/second'), open('deep/er/second').read()")
    assert ran.text == "('../../first', 'abc')\n"
    assert ran.paths == []


def test_endless_loops_are_interrupted_and_variables_kept(driver: Driving) -> None:
    driver.run("kept = 1")
    ran = driver.run("while True: pass", seconds=1)
    assert (ran.ending, ran.done["state_lost"]) == ("timeout", False)
    assert "KeyboardInterrupt" in ran.text
    assert driver.run("kept").text == "1\n"


def test_what_ignores_the_interrupt_is_killed_and_files_are_kept(driver: Driving) -> None:
    driver.run("open('kept.txt', 'w').write('x')")
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    ran = driver.run(code, seconds=1)
    assert (ran.ending, ran.done["state_lost"]) == ("timeout", True)
    assert 3900 < ran.done["ms"] < 8000
    assert driver.run("open('kept.txt').read()").text == "'x'\n"


def test_the_host_interrupts(driver: Driving) -> None:
    ran = driver.run("print('go')\nwhile True: pass", interrupt=2)
    assert (ran.ending, ran.done["state_lost"]) == ("interrupted", False)


def test_the_host_interrupts_what_it_has_just_started(driver: Driving) -> None:
    driver.run("kept = 1")
    for _ in range(20):
        id_ = driver.start("while True: pass")
        driver.say({"op": "interrupt", "id": id_, "grace": 5})
        while (heard := driver.hear())["ev"] != "done":
            assert heard["id"] == id_
        assert (heard["ending"], heard["state_lost"]) == ("interrupted", False)
    assert driver.run("kept").text == "1\n"


def test_an_interrupt_of_another_cell_does_nothing(driver: Driving) -> None:
    driver.say({"op": "interrupt", "id": "of old", "grace": 0})
    assert driver.run("1").ending == "ok"


def test_only_one_thing_is_done_at_a_time(driver: Driving) -> None:
    id_ = driver.start("import time; time.sleep(0.5)")
    assert driver.ask("files")["code"] == "busy"
    assert driver.ask("ping")["ev"] == "pong"
    done = driver.hear()
    assert (done["ev"], done["id"]) == ("done", id_)


def test_threads_that_compute_end_with_the_cell_that_was_stopped(driver: Driving) -> None:
    code = """
        import threading
        def compute():
            while True: pass
        threading.Thread(target=compute).start()
        print('go')
        while True: pass
    """
    ran = driver.run(dedent(code), interrupt=2)
    assert (ran.ending, ran.done["state_lost"]) == ("interrupted", True)
    assert driver.run("'compute' in globals()").text == "False\n"


def test_threads_that_wait_do_not(driver: Driving) -> None:
    code = """
        import threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        print('go')
        while True: pass
    """
    ran = driver.run(dedent(code), interrupt=2)
    assert (ran.ending, ran.done["state_lost"]) == ("interrupted", False)


def test_a_process_that_is_interrupted_takes_its_children_with_it(driver: Driving) -> None:
    driver.run("import subprocess; subprocess.run(['sleep', '1000'])", seconds=1)
    ran = driver.run("import glob; [open(path).read() for path in glob.glob('/proc/[0-9]*/comm')]")
    assert ran.text == "['python3\\n', 'python3\\n']\n"


@pytest.mark.parametrize(
    "code",
    [
        "import os; os._exit(0)",
        "import os; os.kill(os.getpid(), 9)",
        "import ctypes; ctypes.string_at(0)",
        "import os; os.closerange(0, 1000); 1 / 0",
        FORGE + "os.write(channel, b'garbage' * 99)",
        FORGE + "forge(b'[]')",
        FORGE + "forge(b'[' * 100_000)",
        FORGE + "forge(b'x', b'D')",
        FORGE + "forge(json.dumps({'ev': 'bye'}).encode())",
    ],
)
def test_a_lost_kernel_is_said_and_replaced(driver: Driving, code: str) -> None:
    driver.run("lost = 1; open('kept.txt', 'w').write('x')")
    ran = driver.run(code)
    assert (ran.ending, ran.done["state_lost"]) == ("died", True)
    assert driver.run("'lost' in globals(), open('kept.txt').read()").text == "(False, 'x')\n"


def test_a_kernel_that_dies_between_cells_is_mentioned_in_the_next(driver: Driving) -> None:
    driver.run("import threading, os; threading.Timer(0.2, os._exit, [0]).start()")
    time.sleep(0.6)
    ran = driver.run("1")
    assert ran.text == (
        "[The Python process ended after the last call: variables and imports are gone.]\n1\n"
    )


def test_memory_that_is_not_there_is_named_as_the_reason(driver: Driving) -> None:
    ran = driver.run("block = b'x' * 2 * 1024**3")
    assert (ran.ending, ran.done["state_lost"]) == ("out_of_memory", True)
    assert driver.run("1").text == "1\n"


def test_a_cell_that_forks_itself_is_one_cell(driver: Driving) -> None:
    driver.run("import os; child = os.fork(); 0 if child else print('from the copy')")
    # The copy says its words when it likes.
    assert driver.run("child > 0").text.endswith("True\n")
    assert driver.run("os.waitpid(child, 0)[1]").text.endswith("0\n")


def test_pictures_that_a_copy_shows_do_not_confuse(driver: Driving) -> None:
    code = f"import os\n{PLOT}\nif not os.fork():\n    plt.show()\n    os._exit(0)\nos.wait()\nplt.close('all');"
    ran = driver.run(code)
    assert (ran.ending, ran.pictures) == ("ok", [])


def test_a_forged_end_does_not_end_the_next_cell(driver: Driving) -> None:
    ran = driver.run(
        FORGE
        + "forge(json.dumps({'ev': 'done', 'number': 1, 'ok': True}).encode()); print('still here')"
    )
    assert "still here" in ran.text


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.stdout.close(); sys.stderr.close()",
        "import sys; sys.stdout = sys.stderr = sys.stdin = None",
        "import os; os.close(1); os.close(2); os.close(0)",
        "import builtins; builtins.print = lambda *_: None; builtins.input = str",
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
        "import os; os.chmod('/mnt/data', 0)",
        "import sys; sys.displayhook = lambda value: None",
        "import os; os.chdir('/')",
    ],
)
def test_the_next_cell_works_after(driver: Driving, code: str) -> None:
    driver.run(code)
    ran = driver.run("import os; os.chdir('/mnt/data'); open('new', 'w'); print('printed')\n7")
    assert "printed\n7\n" in ran.text
    assert ran.paths == ["new"]
    assert driver.run("while True: pass", seconds=1).done["state_lost"] is False


def test_a_broken_hook_is_seen_in_each_cell(new_driver: Driving) -> None:
    new_driver.run("get_ipython().events.register('post_run_cell', lambda *_: 1 / 0)")
    ran = new_driver.run("7")
    assert ran.text.startswith("7\n")
    assert "ZeroDivisionError" in ran.text
    assert ran.ending == "ok"


@pytest.mark.parametrize(
    "code", ["1\0", "(" * 9999 + ")" * 9999, "def f(): f()\nf()", "%%no_such_magic", "\ud800", ""]
)
def test_odd_code_leaves_the_kernel_alone(driver: Driving, code: str) -> None:
    driver.run("kept = 1")
    driver.run(code)
    assert driver.run("kept").text == "1\n"


def test_late_output_of_a_process_is_in_the_next_cell_or_nowhere(driver: Driving) -> None:
    driver.run("import subprocess; subprocess.Popen('sleep 0.3; echo between', shell=True);")
    time.sleep(0.8)
    assert driver.run("1").text == "1\n"
    driver.run("subprocess.Popen('sleep 0.3; echo during', shell=True);")
    assert driver.run("import time; time.sleep(1)").text == "during\n"


def test_processes_that_print_without_end_do_not_stop_the_next_cell(driver: Driving) -> None:
    driver.run("import subprocess; noisy = subprocess.Popen(['yes']);")
    assert driver.put("given", b"x")["ev"] == "put"
    ran = driver.run("noisy.kill(); noisy.wait();")
    assert ran.ending == "ok"
    assert driver.run("1").text == "1\n"


def test_threads_go_on_after_their_cell(driver: Driving) -> None:
    driver.run(
        "import threading, time\n"
        "def work():\n    time.sleep(0.3)\n    globals()['result'] = 'done'\n"
        "threading.Thread(target=work).start()"
    )
    assert driver.run("time.sleep(0.8); result").text == "'done'\n"


def test_the_first_process_is_out_of_reach(driver: Driving) -> None:
    ran = driver.run(
        """
import os, signal, subprocess
def outcome(call, *arguments):
    try:
        call(*arguments)
        return 'done'
    except OSError as error:
        return type(error).__name__
for number in set(signal.Signals) - {signal.SIGKILL}:
    os.kill(1, number)
os.kill(1, signal.SIGKILL)
for name in 'mem', 'environ', 'maps', 'cwd', 'fd/0', 'fd/3', 'fd/4', 'root':
    print(name, outcome(os.open, f'/proc/1/{name}', os.O_RDONLY))
print(outcome(os.pidfd_open, 1))
"""
    )
    assert ran.text == (
        "".join(
            f"{name} PermissionError\n"
            for name in ("mem", "environ", "maps", "cwd", "fd/0", "fd/3", "fd/4", "root")
        )
        + "done\n"
    )
    assert driver.run("1").done["state_lost"] is False


@pytest.mark.parametrize(
    "call",
    [
        "resource.prlimit(thread, resource.RLIMIT_NOFILE, (0, 0))",
        "os.sched_setaffinity(thread, {0})",
        "os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))",
        "os.setpriority(os.PRIO_PROCESS, thread, 19)",
        "os.setpriority(os.PRIO_PGRP, thread, 19)",
        "os.setpriority(os.PRIO_USER, 0, 19)",
    ],
)
def test_the_first_process_keeps_its_limits_and_its_share(driver: Driving, call: str) -> None:
    threads = driver.run("import os, resource; print(*os.listdir('/proc/1/task'))").text.split()
    assert len(threads) > 1, "a library that is imported starts one"
    for thread in threads:
        assert "PermissionError" in driver.run(f"thread = {thread}\n{call}").text


def test_a_cell_may_set_its_own_limits_and_priority(driver: Driving) -> None:
    ran = driver.run(
        "import os, resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (512, 1024)); os.sched_setaffinity(0, {0})\n"
        "os.nice(0), resource.prlimit(0, resource.RLIMIT_NOFILE)"
    )
    assert ran.text == "(19, (512, 1024))\n"


# By number, for x86_64 and aarch64, because Python has no name for most of them.
CALLS = {
    "io_uring_setup": (425, 425),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "pidfd_getfd": (438, 438),
    "open_by_handle_at": (304, 265),
}


@pytest.mark.parametrize("name", CALLS)
def test_system_calls_that_no_cell_needs_are_refused(driver: Driving, name: str) -> None:
    ran = driver.run(
        f"import ctypes, errno, os; numbers = {CALLS[name]}\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "result = libc.syscall(numbers[os.uname().machine == 'aarch64'], 0, 0, 0, 0, 0)\n"
        "result, errno.errorcode[ctypes.get_errno()]"
    )
    assert ran.text == "(-1, 'EPERM')\n"


@pytest.mark.parametrize("family", ["AF_VSOCK", "AF_NETLINK", "AF_PACKET", "AF_ALG"])
def test_sockets_that_lead_elsewhere_are_refused(driver: Driving, family: str) -> None:
    ran = driver.run(f"import socket; socket.socket(socket.{family}, socket.SOCK_STREAM)")
    assert "Address family not supported by protocol" in ran.text


def test_ordinary_sockets_and_processes_work(driver: Driving) -> None:
    ran = driver.run(
        """
import socket, multiprocessing
server = socket.create_server(('127.0.0.1', 0)); client = socket.create_connection(server.getsockname())
with multiprocessing.get_context('fork').Pool(2) as pool:
    print(pool.map(abs, [-1, -2]))
"""
    )
    assert ran.text == "[1, 2]\n"


def test_modules_of_the_user_may_have_the_names_of_ours(driver: Driving) -> None:
    driver.put("files.py", b"answer = 42")
    assert driver.run("import files; files.answer").text == "42\n"


def test_a_spare_has_no_clocks(new_driver: Driving) -> None:
    assert new_driver.ask("ping")["memory"] > 1024**2
    time.sleep(1)
    assert new_driver.run("1").ending == "ok"


def test_it_ends_when_it_was_idle(new_driver: Driving) -> None:
    assert new_driver.ask("claim", idle=1, life=60)["ev"] == "claimed"
    assert new_driver.run("import time; time.sleep(2)").ending == "ok"
    assert new_driver.hear() == {"ev": "bye", "why": "idle"}
    assert new_driver.ended()


def test_it_ends_when_its_life_is_over_but_not_in_a_cell(new_driver: Driving) -> None:
    new_driver.ask("claim", idle=60, life=1)
    assert new_driver.run("import time; time.sleep(2)").ending == "ok"
    assert new_driver.hear() == {"ev": "bye", "why": "life"}
    assert new_driver.ended()


def test_it_ends_with_its_input(new_driver: Driving) -> None:
    new_driver.start("import time; time.sleep(1000)")
    new_driver.let_go()
    assert new_driver.ended()


def test_the_packages_that_are_promised_can_be_imported(driver: Driving) -> None:
    names = (
        "numpy, pandas, matplotlib, scipy, sklearn, seaborn, openpyxl, xlsxwriter, PIL, docx, pptx, pypdf, "
        "pdfplumber, reportlab, sympy, statsmodels, tabulate, lxml, bs4, pyarrow, networkx"
    )
    assert driver.run(f"import {names}\nlxml.__name__").text == "'lxml'\n"


def test_a_frame_is_answered_also_when_it_comes_in_pieces(driver: Driving) -> None:
    content = json.dumps({"op": "ping", "id": "slow"}).encode()
    for byte in HEAD.pack(len(content), JSON) + content:
        driver.write(bytes([byte]))
    assert driver.hear()["id"] == "slow"
