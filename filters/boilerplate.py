"""Drop menus, buttons and error messages."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from filters.base import AtMost, Columns
from filters.text import coverage

_PHRASES = (
    r"add to cart",
    r"add to basket",
    r"buy now",
    r"click here(?: to [a-z ]{0,40})?",
    r"view larger image",
    r"read more",
    r"learn more",
    r"skip to (?:main )?content",
    r"share on [a-z]+",
    r"sign in",
    r"log in",
    r"load image into gallery viewer",
    r"next (?:page|slide|image)",
    r"previous (?:page|slide|image)",
    r"main menu",
    r"home page",
    r"all rights reserved",
    r"free shipping",
    r"in den warenkorb",
    r"mehr erfahren",
    r"hier klicken",
    r"zum inhalt springen",
    r"jetzt kaufen",
    r"en savoir plus",
    r"ajouter au panier",
    r"leer más",
    r"añadir al carrito",
    r"点击查看(?:大图)?",
    r"查看更多",
    r"加入购物车",
    r"返回首页",
    r"上一篇",
    r"下一篇",
    r"加载中",
    r"版权所有",
    r"もっと見る",
    r"詳細を見る",
    r"カートに入れる",
    r"404(?: error)?",
    r"page not found",
    r"not found",
    r"access denied",
    r"forbidden",
    r"enable javascript",
    r"image (?:unavailable|not available)",
    r"server error",
    r"图片不存在",
    r"无法显示",
    r"画像がありません",
)


class Boilerplate(AtMost):
    """Keep captions that page furniture does not mostly consist of.

    Coverage, not presence: a sentence that mentions "read more" is kept.
    """

    reason: ClassVar[str] = "boilerplate"
    reads: ClassVar[tuple[str, ...]] = ("caption",)
    unit: ClassVar[str] = "share covered"
    threshold: ClassVar[str] = "max_coverage"

    max_coverage: float = Field(default=0.4, ge=0, le=1, description="Highest covered share kept, inclusive.")

    def measure(self, columns: Columns) -> npt.NDArray[np.float32]:
        """Return the share of the caption that known phrases cover."""
        return coverage(columns["caption"], "(?i)" + "|".join(_PHRASES))
