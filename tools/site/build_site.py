"""Build the documentation site in _docs/: `make site`. Needs Quarto and npm."""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT/'tools'/'site'/'web'
MATHJAX = ['tex-chtml-full.js', 'output/chtml/fonts/woff-v2']
FONTS = ['source-serif-4/files/source-serif-4-latin-wght-normal.woff2',
         'source-serif-4/files/source-serif-4-latin-wght-italic.woff2',
         'source-code-pro/files/source-code-pro-latin-wght-normal.woff2']
AFTER_MACROS = re.compile(r'(<span class="math inline">\\\(\\newcommand[^<]*\\\)</span>)\s+')
CODE_OF_OTHERS = re.compile(r'<script[^>]*\bsrc="https?://[^"]*"[^>]*></script>\s*')


def need(tool, why):
    if not shutil.which(tool): sys.exit(f'{tool} is not on the PATH: {why}')


def copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir(): shutil.copytree(source, target, dirs_exist_ok=True)
    else: shutil.copy2(source, target)


def vendor(target):
    "Formulas and fonts, of fixed versions, from npm: the site asks nobody else for anything."
    install = ['npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund', '--silent']
    subprocess.run(install, cwd=WEB, check=True)
    modules = WEB/'node_modules'
    for part in MATHJAX: copy(modules/'mathjax'/'es5'/part, target/'mathjax'/part)
    for font in FONTS: copy(modules/'@fontsource-variable'/font, target/'fonts'/Path(font).name)


def process():
    "The pages' source in _proc/: notebooks by nbdev and our processors, the rest as it is."
    sys.path.insert(0, str(ROOT))           # where nbdev finds tools.site.processors
    os.chdir(ROOT)
    from nbdev.quarto import refresh_quarto_yml
    from nbdev.serve import proc_nbs
    refresh_quarto_yml()
    proc = ROOT/'_proc'
    shutil.rmtree(proc, ignore_errors=True)
    proc_nbs(n_workers=0, force=True)
    if not list(proc.rglob('*.ipynb')):     # nbdev skips what lies under a folder named .something
        sys.exit(f'nbdev skips {ROOT}: move the project out of folders named .something')
    for folder in ['_assets', '_widgets']:
        if (ROOT/'nbs'/folder).exists(): copy(ROOT/'nbs'/folder, proc/folder)
    return proc


def tidy(docs, base):
    "Paths from the top become relative to each page, and no page asks another server for a script."
    for page in docs.rglob('*.html'):
        up = base if page.name == '404.html' else '../'*(len(page.relative_to(docs).parts) - 1)
        text = CODE_OF_OTHERS.sub('', page.read_text(encoding='utf-8'))
        text = re.sub(r'''(["'])/(?=_(?:assets|vendor|widgets)/)''', rf'\1{up}', text)
        text = AFTER_MACROS.sub(r'\1', text)    # what defines symbols takes no room
        folder = page.parent.relative_to(docs).as_posix()       # where Quarto looks for the card
        text = text.replace(f'/{folder}/_assets/card.png', '/_assets/card.png')
        page.write_text(text, encoding='utf-8')


def build():
    need('quarto', 'install Quarto 1.7 from https://quarto.org/docs/download to build the site; '
                   '`make test` checks the pages without it')
    need('npm', 'install Node.js, by which the site gets its fonts and formulas')
    proc = process()
    vendor(proc/'_vendor')
    subprocess.run(['quarto', 'render', '--no-cache'], cwd=proc, check=True)
    docs = ROOT/'_docs'
    shutil.rmtree(docs, ignore_errors=True)
    shutil.move(proc/'_docs', docs)
    from nbdev.config import get_config
    tidy(docs, get_config().doc_baseurl.rstrip('/') + '/')
    from tools.site.search import entries
    (docs/'search.json').write_text(json.dumps(entries(), ensure_ascii=False), encoding='utf-8')
    print(f'built {len(list(docs.rglob("*.html")))} pages in {docs.relative_to(ROOT)}/')


if __name__ == '__main__': build()
