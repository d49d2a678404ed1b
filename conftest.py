"""What pytest leaves out where its host is not installed."""

from importlib.util import find_spec

collect_ignore = [
    path
    for host in ("secmlt", "torchattacks")
    if find_spec(host) is None
    for path in (f"art_mtl/{host}", f"docs/{host}.md")
]
