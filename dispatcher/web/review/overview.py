"""Overview."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dispatcher.web.review.site import Site


def routes(site: Site) -> list[Route]:
    """The addresses of this part."""

    def overview(request: Request) -> Response:
        return site.page(request, "overview.html")

    return [Route("/", overview)]
