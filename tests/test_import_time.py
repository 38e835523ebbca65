"""What a command imports before it can begin: nothing that takes long and is not used."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_reading_does_not_import_what_compiles_models():
    """torch.compile's machinery and sympy take as long to import as all the rest together."""
    program = (
        "import sys, samba_cli.reader, samba_cli.answer, samba_cli.summarize\n"
        "from samba_cli.model import load_checkpoint\n"
        "print(*{'torch._dynamo', 'sympy', 'transformers'} & sys.modules.keys())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == ""
