"""Score a model against the primate visual system, and export it for Brain-Score.

`score`: one layer a region. `layers`: every layer, and the best for each region. `similarity`:
dissimilarity matrices. `behaviour`: i2n or error consistency with people. `export`: a Brain-Score
plugin. `vitreous brain SUBCOMMAND --help` shows the options of one.

Example:
    vitreous brain layers runs/x --assembly macaque_v4/ --session 201025
    vitreous brain score runs/x --assembly MajajHong2015.public.nc --region V4 --layers blocks.9
    vitreous brain export runs/x --map V1=blocks.2 V2=blocks.3 V4=blocks.6 IT=blocks.10 --out p/
"""

from __future__ import annotations

from typing import Annotated

import tyro

from vitreous.commands.brain.behaviour import Behaviour
from vitreous.commands.brain.export import Export
from vitreous.commands.brain.score import Layers, ScoreRegions
from vitreous.commands.brain.similarity import Similarity

Command = (
    Annotated[ScoreRegions, tyro.conf.subcommand("score")]
    | Annotated[Layers, tyro.conf.subcommand("layers")]
    | Annotated[Similarity, tyro.conf.subcommand("similarity")]
    | Annotated[Behaviour, tyro.conf.subcommand("behaviour")]
    | Annotated[Export, tyro.conf.subcommand("export")]
)
