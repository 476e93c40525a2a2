"""The report: one page that holds a comparison and needs no network."""

from latentood.report.html.document import Document, read_document
from latentood.report.html.extras import Extras, Projection, Reliability
from latentood.report.html.page import write_report

__all__ = ["Document", "Extras", "Projection", "Reliability", "read_document", "write_report"]
