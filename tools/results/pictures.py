"""Store the pictures of executed notebooks with at most 64 colours: as sharp, and a third as heavy.

`python tools/results/pictures.py NOTEBOOK ...`, after a page was executed; `make pages` does it.
"""
import base64
import io
import json
import sys
from pathlib import Path

from PIL import Image


def lighter(png):
    "The PNG with a palette, where that is lighter, at the same number of dots an inch."
    image = Image.open(io.BytesIO(png))
    dpi = image.info.get('dpi')
    if image.mode == 'P': return png
    page = Image.new('RGB', image.size, 'white')
    page.paste(image, mask=image.getchannel('A') if image.mode == 'RGBA' else None)
    made = io.BytesIO()
    small = page.quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small.save(made, 'PNG', optimize=True, **({'dpi': dpi} if dpi else {}))
    return min(made.getvalue(), png, key=len)


def lighten(path):
    nb = json.loads(path.read_text(encoding='utf-8'))
    for cell in nb['cells']:
        for output in cell.get('outputs', []):
            if 'image/png' not in output.get('data', {}): continue
            old = ''.join(output['data']['image/png'])
            output['data']['image/png'] = base64.b64encode(lighter(base64.b64decode(old))).decode()
    text = json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True)
    path.write_text(text + '\n', encoding='utf-8')


if __name__ == '__main__':
    for name in sys.argv[1:]: lighten(Path(name))
