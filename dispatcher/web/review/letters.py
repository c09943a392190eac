"""Letters."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dispatcher.web.review.site import Site


def routes(site: Site) -> list[Route]:
    """The addresses of this part."""

    def letters(request: Request) -> Response:
        return site.page(request, "letters.html")

    return [Route("/letters", letters)]
