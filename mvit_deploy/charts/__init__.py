"""Charts as PNG or SVG; the one importer of matplotlib."""

from mvit_deploy.charts.names import Point
from mvit_deploy.charts.scatter import Panel, draw, save

__all__ = ["Panel", "Point", "draw", "save"]
