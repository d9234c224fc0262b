"""What the words of a block give away, as far as they can be told without reading."""

import re

TALK = re.compile(
    r"\b(reviews?|ratings?|comments?|repl(y|ies)|responses?|questions?|q&a|answers?|discussion|kommentare?|bewertungen|"
    r"commentaires?|avis|comentarios|opiniones)\b",
    re.IGNORECASE,
)
"""In a heading: what readers have said."""
MORE = re.compile(
    r"\b(related|similar|recommend\w*|(you|customers) (may|might|also)|also (like|bought|viewed)|more (from|in|like|on|"
    r"stories|articles|posts|products)|recent(ly)?|popular|trending|latest|best ?sellers|read next|keep reading|"
    r"featured|suggested|people also|top stories|categories|archives|tags|follow us|share|newsletter|subscribe|"
    r"sign up|quick links|company|support|resources|navigation|about us|customer service|get in touch|contact us|"
    r"shipping|returns|ähnliche|weitere|auch interessant|articles? (liés|similaires)|relacionad[oa]s)\b",
    re.IGNORECASE,
)
"""In a heading: what else there is."""
CHROME = re.compile(
    r"(©|\b(all rights reserved|privacy policy|terms (of|and|&)|cookies?|subscribe|sign (in|up)|log ?in|"
    r"register|newsletter|skip to|menu|share (this|on)|tweet|follow us|read more|learn more|view all|see all|"
    r"(show|load) more|show all|add to (cart|bag|basket|wishlist|compare)|"
    r"buy now|checkout|quick view|wish ?list|compare|sort by|filter|"
    r"copyright|powered by|javascript|email address|your (email|cart)|report|reply|quote|likes?|"
    r"permalink|posted (by|on|in)|joined|members?|back to top|previous|next|"
    r"datenschutz|impressum|anmelden|mentions légales|connexion)\b)",
    re.IGNORECASE,
)
PRICE = re.compile(r"[$€£¥₹]\s?\d|\d[\d.,]{0,20}\s?(€|£|USD|EUR|kr|zł|Kč)")
DATE = re.compile(
    r"\b(19\d\d|20[0-3]\d)\b|\b\d{1,2}[/.]\d{1,2}[/.]\d{2,4}\b|"
    r"\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,8}\.? \d|"
    r"\b\d{1,4} (second|minute|min|hour|hr|day|week|month|year)s? ago\b",
    re.IGNORECASE,
)
RATING = re.compile(r"\b\d(\.\d)?\s?(/|out of)\s?5\b|★|\bstars?\b|\(\d+\)|\d reviews?", re.IGNORECASE)
SENTENCE_END = re.compile(r"[.!?…。:;\"”\u061f\uff01\uff1f]\s*$")
_SMALL_WORDS = (
    "the a an of and to in is for that it on with as are be this by from at or was you your i we they he she not have "
    "has but can will if which their our its more when who what how my so do all there been would were one about up "
    "out der die das und ist nicht ein eine zu den mit von für auf le la les des et est un une pour que dans el los "
    "las en es por con del il di che per"
)
SMALL_WORDS = frozenset(_SMALL_WORDS.split())
"""What sentences are held together by, in five languages. Labels do without."""
ADDRESSES = {
    "product": r"/(products?|p|dp|item|itm|ip|pd|pdp|gp|shop/p|buy)/|/p-|-p\d|product",
    "forum": r"forum|thread|topic|/t/|questions?/|viewtopic|community|discuss|comments|boards",
    "shelf": r"/(c|cat|category|categories|collections?|browse|shop|catalog|market|l|w|b|plp)(/|$)|catpage",
    "docs": r"docs?[./]|/api|reference|manual|guide|learn|wiki|tutorial",
    "news": r"blog|news|article|/20[0-3]\d/|stories|story|posts?/",
    "list": r"list|top|best|search|tag|topics|rank|directory|events|jobs|index",
}
"""What addresses say of their pages."""
TYPES = {
    "product": {"Product", "ProductGroup", "Offer", "IndividualProduct"},
    "article": {"Article", "NewsArticle", "BlogPosting", "TechArticle", "Report", "ScholarlyArticle"},
    "forum": {"DiscussionForumPosting", "QAPage", "Question", "Answer", "Comment"},
    "list": {"ItemList", "CollectionPage", "SearchResultsPage", "OfferCatalog"},
    "business": {"LocalBusiness", "Organization", "Service", "WebSite"},
    "faq": {"FAQPage"},
    "review": {"Review", "AggregateRating"},
    "crumbs": {"BreadcrumbList"},
}
"""Types of https://schema.org, by what pages that name them tend to be."""
