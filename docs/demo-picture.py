"""Draws docs/demo.png from what `pawgate demo` prints. Needs Pillow and the DejaVu fonts.

usage: docs/demo-picture.py PAWGATE
"""
import pathlib
import subprocess
import sys

from PIL import Image, ImageDraw, ImageFont, ImageOps

ROOT = pathlib.Path(__file__).resolve().parents[1]
SIDE, GAP, CAPTION = 270, 14, 78
FONTS = "/usr/share/fonts/truetype/dejavu/DejaVuSans"


def main():
    text = subprocess.run([sys.argv[1], "demo"], check=True, capture_output=True, text=True).stdout
    rows = [line for line in text.splitlines() if ".jpg" in line]
    canvas = Image.new("RGB", (len(rows) * (SIDE + GAP) + GAP, SIDE + CAPTION + 2 * GAP), "white")
    draw = ImageDraw.Draw(canvas)
    bold = ImageFont.truetype(f"{FONTS}-Bold.ttf", 21)
    plain = ImageFont.truetype(f"{FONTS}.ttf", 15)
    for index, row in enumerate(rows):
        name, rest = row.split(maxsplit=1)
        seen, door = (part.strip() for part in rest.split("  door ", 1))
        opens = door.startswith("OPENS")
        left = GAP + index * (SIDE + GAP)
        picture = ImageOps.fit(Image.open(ROOT / "samples" / name).convert("RGB"), (SIDE, SIDE))
        canvas.paste(picture, (left, GAP))
        colour = "#1a7f37" if opens else "#a40e26"
        draw.rectangle((left, GAP, left + SIDE - 1, GAP + SIDE - 1), outline=colour, width=5)
        draw.text((left, GAP + SIDE + 12), "door opens" if opens else "stays shut", fill=colour, font=bold)
        draw.text((left, GAP + SIDE + 44), seen, fill="#24292f", font=plain)
    canvas.save(ROOT / "docs/demo.png", optimize=True)


main()
