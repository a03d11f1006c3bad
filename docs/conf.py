"""How Sphinx builds these pages: `make docs`."""

from __future__ import annotations

from importlib import import_module, metadata

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

project = "ravenwh"
author = "the authors of ravenwh"
copyright = author
release = version = metadata.version("ravenwh")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ravenwh {release}"
html_show_sphinx = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "__init__, __new__"}


class ClickHelp(SphinxDirective):
    """``{click-help} MODULE:COMMAND program``: what the program prints for ``--help``."""

    required_arguments = 2
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """One literal block for the command, and one for each command below it."""
        module, _, name = self.arguments[0].partition(":")
        command = getattr(import_module(module), name)
        return list(self._helps(command, self.arguments[1]))

    def _helps(self, command: click.Command, program: str) -> list[nodes.Node]:
        context = click.Context(command, info_name=program, max_content_width=80)
        shown: list[nodes.Node] = []
        if not isinstance(command, click.Group):
            text = command.get_help(context)
            return [nodes.literal_block(text, text, language="text")]
        for below in command.list_commands(context):
            if found := command.get_command(context, below):
                shown += self._helps(found, f"{program} {below}")
        return shown


def setup(app: Sphinx) -> None:
    """Add what these pages use."""
    app.add_directive("click-help", ClickHelp)
