"""Sentences of many languages are connected language by the same rule, and lists of their nouns are none."""

import pyarrow as pa
import pytest

from filters.completeness import Completeness
from filters.text.function_words import FUNCTION_WORDS
from filters.text.verbs import HAN_WORDS, VERBS

SENTENCES = {
    "en": "A dog runs along the beach in the evening sun.",
    "de": "Ein Hund läuft am Abend über den Strand.",
    "fr": "Un chien court sur la plage au coucher du soleil.",
    "es": "Un perro corre por la playa al atardecer.",
    "it": "Un cane corre sulla spiaggia al tramonto.",
    "pt": "Um cachorro corre pela praia ao entardecer.",
    "nl": "Een hond rent in de avond over het strand.",
    "sv": "En hund springer längs stranden i kvällssolen.",
    "da": "En hund løber langs stranden i aftensolen.",
    "no": "En hund løper langs stranden i kveldssola.",
    "fi": "Koira juoksee rannalla ilta-auringossa lapsen kanssa.",
    "pl": "Pies biegnie wzdłuż plaży o zachodzie słońca.",
    "cs": "Pes běží po pláži při západu slunce.",
    "sk": "Pes beží po pláži pri západe slnka.",
    "hr": "Pas trči po plaži u zalazak sunca.",
    "hu": "Egy kutya fut a tengerparton naplementében.",
    "ro": "Un câine aleargă pe plajă în lumina apusului.",
    "tr": "Bir köpek gün batımında sahil boyunca koşuyor.",
    "id": "Seekor anjing berlari di pantai saat matahari terbenam.",
    "vi": "Một con chó đang chạy trên bãi biển lúc hoàng hôn.",
    "sq": "Një qen vrapon në plazh me fëmijët e tij.",
    "ru": "Собака бежит по пляжу на закате.",
    "uk": "Собака біжить уздовж пляжу на заході сонця.",
    "bg": "Куче тича по плажа на залез слънце.",
    "sr": "Пас трчи по плажи у сутон.",
    "el": "Ένας σκύλος τρέχει στην παραλία με το παιδί.",
    "ar": "كلب يركض على الشاطئ عند غروب الشمس.",
    "fa": "یک سگ در ساحل با کودک می‌دود.",
    "he": "כלב רץ על החוף עם הילד שלו.",
    "hi": "एक कुत्ता शाम को समुद्र के किनारे दौड़ रहा है।",
    "ko": "개가 해변에서 아이와 뛰어놀고 있다.",
    "ja": "夕方の砂浜を犬が走っています。",
    "zh": "一只狗在傍晚的沙滩上奔跑。",
    "th": "สุนัขวิ่งเล่นอยู่บนชายหาดกับเด็กในตอนเย็น",
}
LISTS = {
    "en": "Dog beach sunset photo print canvas",
    "de": "Hund Strand Foto Leinwand Kunstdruck",
    "fr": "Chien plage photo toile affiche décoration",
    "sv": "Hund strand foto tavla affisch köp",
    "fi": "Koira ranta kuva juliste sisustus",
    "pl": "Pies plaża zdjęcie plakat obraz",
    "tr": "Köpek plaj fotoğraf poster tablo",
    "ru": "Собака пляж фото постер картина",
    "ja": "犬 砂浜 写真 夕日 壁紙",
    "zh": "沙滩 狗 照片 海报 壁纸",
}
HEADLINES = {
    "en": "Press Secretary Holds Briefing At White House",
    "de": "Frau empfängt den Segen",
    "nl": "Premier maakt het plan bekend",
    "tr": "Simge, Selin Ciğerci'den borç istedi",
    "zh": "中国男篮险胜韩国取世界杯第二胜 守住直通奥运希望",
    "zh-quoted": "女孩模仿“易拉罐制爆米花”，父亲",
}


@pytest.mark.parametrize("language", HEADLINES)
def test_a_headline_with_a_verb_is_kept(language: str) -> None:
    assert Completeness().keep({"caption": pa.array([HEADLINES[language]])}).all()


def test_a_listed_verb_is_no_small_word_of_its_language() -> None:
    """One word must not count twice; Chinese words are pairs of characters, as they are looked up."""
    both = {word for listed in VERBS.values() for word in listed.split()} & set(FUNCTION_WORDS["en"].split())
    assert not both, sorted(both)
    assert {len(word) for word in HAN_WORDS} == {2}
    assert len(set(HAN_WORDS)) == len(HAN_WORDS)


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_is_kept(language: str) -> None:
    assert Completeness().keep({"caption": pa.array([SENTENCES[language]])}).all()


@pytest.mark.parametrize("language", LISTS)
def test_a_list_of_nouns_is_dropped(language: str) -> None:
    assert not Completeness().keep({"caption": pa.array([LISTS[language]])}).any()
