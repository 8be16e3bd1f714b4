"""`python -m magface`: the command line, as `torchrun -m magface` starts it."""

from magface.cli.main import main

main()
