# SPDX-License-Identifier: LGPL-2.1-or-later
"""The examples do what they say."""
import json
import os
import re
import subprocess
import sys

import pytest

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bindings/python/examples")


@pytest.mark.parametrize("name, said", [
    ("raw_code", "the guest wrote 42\nHalt(vcpu=0)\n"),
    ("trace", "write 0x200c: 3\n"),
    ("rewind", "input 1337 crashes it\n"),
    ("framebuffer", "framebuffer.png: frame 60\n"),
    ("many", "".join(chr(65 + n) for n in range(50)) + "\n"),
])
def test_example(name, said, tmp_path):
    done = subprocess.run([sys.executable, os.path.join(EXAMPLES, name + ".py")], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "" and said in done.stdout


def test_notebook():
    """Its cells, one after the other."""
    with open(os.path.join(EXAMPLES, "notebook.ipynb"), encoding="utf-8") as notebook:
        cells = json.load(notebook)["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_readme():
    """The README's program, but for the Linux that it boots."""
    with open(os.path.join(EXAMPLES, "../../../README.md"), encoding="utf-8") as readme:
        code = re.search(r"```python\n(.*?)```", readme.read(), re.DOTALL)[1]
    code = code[:code.index("with virtcore.VM(memory")] + code[code.index("class Adder"):]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Halt(vcpu=0) 42\n", "")
