"""From exceptions to messages and exit codes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from ivdjax.commands.commands import CommandParser, Terminated, local_output, run_command, spoken
from ivdjax.config import ConfigError
from ivdjax.volume import CaseError, UserError


def raising(error: BaseException):
    def main() -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("no model at m"), 2, "error: no model at m"),
        (ConfigError("data.root must be text"), 2, "error: data.root must be text"),
        (CaseError("case 7: no image"), 1, "error: case 7: no image"),
        (KeyboardInterrupt(), 130, "Ctrl-C; nothing was left half written; the same command again"),
        (Terminated(), 143, "SIGTERM; nothing was left half written; the same command again"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/a.nii.gz"), 1, "the disk is full: out/a.nii.gz"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), 1, "no permission to write or read: out"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), 1, "No such file or directory: x"),
        (OSError("the checkpoint could not be written"), 1, "the checkpoint could not be written"),
        (FloatingPointError("step 7: the loss is not a number"), 1, "step 7"),
        (OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), "x" * 300), 2, "File name too long: xxx"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG), "a.nii.gz"), 1, "(ulimit -f) or of the disk allows: a.nii.gz"),
        (MemoryError(), 1, "memory ran out"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), 1, "memory ran out on the device"),
    ],
)
def test_expected_failures_become_one_message(capsys, error, code, words):
    assert run_command(raising(error)) == code
    out, err = capsys.readouterr()
    assert words in err and "Traceback" not in err and out == ""


def test_a_message_holds_nothing_that_a_terminal_obeys(capsys):
    run_command(raising(UserError("two cases are named \x1b[2Ja; rename one\n(or not)")))
    assert capsys.readouterr().err == "error: two cases are named \\x1b[2Ja; rename one\n(or not)\n"


@pytest.mark.parametrize("error", [ZeroDivisionError("bug"), RuntimeError("bug")])
def test_faults_of_the_program_keep_their_traceback(error):
    with pytest.raises(type(error), match="bug"):
        run_command(raising(error))


def test_the_code_of_main_is_given_back():
    assert [run_command(lambda: 0), run_command(lambda: 1)] == [0, 1]


def test_sigterm_runs_the_cleanup_and_the_former_answer_to_it_is_restored():
    cleaned = []

    def main() -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            return 0
        finally:
            cleaned.append(True)

    before = signal.getsignal(signal.SIGTERM)
    assert run_command(main) == 143
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_reader_that_has_gone_is_no_traceback(root):
    code = (
        "import sys; from ivdjax.commands.commands import run_command\n"
        "sys.exit(run_command(lambda: [print(n) for n in range(100000)] and 0))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(20) == 1
    assert errors == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_cost_nothing_but_the_words(root, tmp_path, closed):
    code = (
        "import sys; from ivdjax.commands.commands import run_command\n"
        f"out = {str(tmp_path / 'out')!r}\n"
        "def main():\n"
        "    with open(out, 'w') as stream: print('words'), print('words', file=sys.stderr), stream.write('result')\n"
        "    import subprocess; subprocess.run([sys.executable, '-c', 'print(1, flush=True)'], check=True)\n"
        "    return 0\n"
        "sys.exit(run_command(main))"
    )
    (tmp_path / "main.py").write_text(code)
    line = f"{sys.executable} {tmp_path / 'main.py'} {closed}"
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(["sh", "-c", line], cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert (tmp_path / "out").read_text() == "result"  # the file was not taken for a stream


def test_a_console_of_few_letters_shows_others_escaped(root):
    code = (
        "import sys; from ivdjax.commands.commands import run_command\n"
        "sys.exit(run_command(lambda: print('\\u810a\\udcff') or 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout == "\\u810a\\udcff\n"


@pytest.mark.parametrize("arguments", [["--unknown"], ["--output"], ["--out", "x"], []])
def test_wrong_options_exit_with_2(capsys, arguments):
    parser = CommandParser("Does it.\n\nexample: x")
    parser.add_argument("--output", required=True)
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(arguments)
    assert exit_.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_bucket_is_no_folder_of_this_machine():
    assert str(local_output("runs/a")) == "runs/a"
    with pytest.raises(UserError, match="--output is empty"):
        local_output("")
    with pytest.raises(UserError, match="no valid UTF-8"):
        local_output("o\udcff")
    with pytest.raises(UserError, match="--output gs://b/run: this command writes to a folder of this machine"):
        local_output("gs://b/run")


@pytest.mark.parametrize(
    ("started", "infer", "review"),
    [
        ("/usr/bin/ivdjax", "ivdjax infer", "ivdjax review"),
        ("train.py", "python infer.py", "python -m ivdjax review"),
        ("/a/ivdjax/__main__.py", "python -m ivdjax infer", "python -m ivdjax review"),
    ],
)
def test_messages_name_a_command_as_the_user_calls_it(monkeypatch, started, infer, review):
    monkeypatch.setattr(sys, "argv", [started, "--output", "x"])
    assert (spoken("infer"), spoken("review")) == (infer, review)
