"""One self-contained HTML page about exported files, to attach to a release.

    from mvit_deploy import html

    Path("release.html").write_text(html.render(reports), encoding="utf-8")

render makes a page of reports alone. With pictures, errors by stage and times, which gathering.page_of has files run
for, it is what --html of mvit-export and mvit-verify writes:

    from mvit_deploy.html import gathering, verified

    page = gathering.page_of(verified.of_reports(mvit_deploy.verify(files), mvit_deploy.subject.Options()))
"""

from mvit_deploy.html.exhibits import Answer, Gallery, Picture, StageErrors, Time, Timing
from mvit_deploy.html.page import render

__all__ = ["Answer", "Gallery", "Picture", "StageErrors", "Time", "Timing", "render"]
