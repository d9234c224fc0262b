"""What is typed: `homelab-ai crawl`. `cli.ending` says what its exit statuses mean."""

from pathlib import Path
from typing import Annotated

import typer

from homelab_ai.cli.options import HERE, Url


def crawl(
    urls: Annotated[list[str], typer.Argument(help="The pages' addresses; without http(s)://, https:// is meant.")],
    url: Url = HERE,
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="Markdown rather than plain text.")] = False,
    html: Annotated[bool, typer.Option("--html", help="The page itself; as its scripts left it, if they ran.")] = False,
    links: Annotated[bool, typer.Option("--links", help="Its links, one in a line.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="All that the service says: a line of JSON for each page.")
    ] = False,
    screenshot: Annotated[Path | None, typer.Option(help="A PNG file to write, of one page.")] = None,
    full_page: Annotated[bool, typer.Option("--full-page", help="All of the page on it, not one window.")] = False,
    output_dir: Annotated[Path | None, typer.Option(help="Write a file for each page into this folder.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write files anew that are there already.")] = False,
    wait_for_js: Annotated[
        bool | None, typer.Option(help="Have a browser show it, or never. Without: where the page needs one.")
    ] = None,
    wait_for_selector: Annotated[str | None, typer.Option(help="CSS: what the browser waits for.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds for each page.")] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="A header for the page's own origin, 'Name: value'. Repeatable.")
    ] = None,
) -> None:
    """Read web pages: their main content as text, on standard output.

    What there is to know beside it, and what of a page was refused, is said on standard error. A key, with the scope
    crawl, is taken from HOMELAB_AI_API_KEY.
    """
    from homelab_ai.cli.crawl.work import Order, crawl_all  # noqa: PLC0415 - `serve` needs none of this
    from homelab_ai.cli.ending import Stop, ending  # noqa: PLC0415

    with ending():
        formats = [name for name, wanted in (("markdown", markdown), ("html", html), ("links", links)) if wanted]
        if len(formats) > 1 and not as_json:
            raise Stop(f"--{formats[0]} and --{formats[1]} are two outputs; --json has both", 2)
        if screenshot and len(urls) > 1:
            raise Stop("--screenshot is of one page", 2)
        if full_page and not screenshot:
            raise Stop("--full-page says what is on the --screenshot", 2)
        body = {
            "formats": ["text", *formats],
            "screenshot": ("full_page" if full_page else True) if screenshot else False,
            "wait_for_js": "auto" if wait_for_js is None else wait_for_js,
            "wait_for_selector": wait_for_selector,
            "timeout_ms": None if timeout is None else round(timeout * 1000),
            "headers": dict(_header(each) for each in header or []),
        }
        kind = "json" if as_json else formats[0] if formats else "text"
        crawl_all(url, urls, Order(body, kind, screenshot, output_dir, force=force))


def _header(text: str) -> tuple[str, str]:
    from homelab_ai.cli.ending import Stop  # noqa: PLC0415

    name, colon, value = text.partition(":")
    if not colon:
        raise Stop("--header wants 'Name: value'", 2)  # without the text: it may be a secret
    return name.strip(), value.strip()
