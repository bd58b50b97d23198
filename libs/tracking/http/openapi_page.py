"""The page that shows an OpenAPI document, by Scalar; it works offline and leads nobody to another host.

Scalar's page has buttons of its vendor (ask an AI, share, deploy, generate SDKs), loads fonts from it and reports to
it. Its settings switch these off; a policy for the browser (CSP) refuses any request to another host all the same,
and links to one are taken out. The page comes with its script (package offapi).
"""

import importlib
import json

_CONFIGURATION = {
    "theme": "purple",
    "agent": {"disabled": True},
    "mcp": {"disabled": True},
    "hideClientButton": True,
    "showDeveloperTools": "never",
    "telemetry": False,
    "withDefaultFonts": False,
    "externalUrls": dict.fromkeys(("dashboardUrl", "registryUrl", "proxyUrl", "apiBaseUrl"), "about:blank"),
}
_REPLACED = "theme: 'purple',"
# Whatever the page builds: a link to another host is no link any more, and no window is opened.
_WITHOUT_LINKS = """<script>
window.open = () => null
const isElsewhere = link => link.href && new URL(link.href, location.href).origin !== location.origin
const isVendors = button => /\\bSDK\\b/i.test(button.textContent)
const strip = () => {
  document.querySelectorAll("a[href]").forEach(link => isElsewhere(link) && link.remove())
  document.querySelectorAll("button[aria-haspopup=dialog]").forEach(button => isVendors(button) && button.remove())
}
new MutationObserver(strip).observe(document, {childList: true, subtree: true, attributeFilter: ["href"]})
</script>
"""
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'unsafe-inline'",
        "style-src 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {"content-security-policy": POLICY, "referrer-policy": "no-referrer", "x-content-type-options": "nosniff"}


def build_page(document_url: str) -> str:
    """Return the page for the document at `document_url`.

    Raises ValueError if a newer spectree has another template, whose settings would not be known.
    """
    template: str = importlib.import_module("spectree.page").PAGE_TEMPLATES["scalar"]
    page = template.format(spec_url=document_url, spec_path="openapi")
    if page.count(_REPLACED) != 1 or "<body>" not in page:
        raise ValueError("the template of spectree's Scalar page has changed")
    settings = json.dumps(_CONFIGURATION)[1:-1] + ","
    return page.replace("<body>", "<body>" + _WITHOUT_LINKS, 1).replace(_REPLACED, settings, 1)
