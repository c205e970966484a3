"""Strong abuse by language. Ours, short on purpose; deployments bring lists of their own.

Whole words in spaced scripts, so that Scunthorpe survives; two characters or more in scripts without
spaces, where one character alone has innocent meanings, and never inside one of the allowed words.
"""

STRONG_WORDS: dict[str, str] = {
    "en": "fuck fucks fucking fucked fucker fuckers motherfucker motherfuckers motherfucking shit shits shitty "
    "bullshit "
    "cunt cunts asshole assholes whore whores slut sluts nigger niggers nigga niggas faggot faggots retards "
    "bitches cocksucker dickhead wanker twat gangbang blowjob cumshot creampie milf porn porno",
    "de": "scheiße scheisse arschloch arschlöcher hurensohn hurensöhne fotze fotzen wichser schlampe missgeburt "
    "ficken "
    "fickt gefickt kanake neger",
    "fr": "putain putes connard connards salope salopes enculé enculés bordel merde nègre",
    "es": "mierda puta putas cabrón cabrones gilipollas hijueputa pendejo coño joder maricón",
    "it": "cazzo stronzo stronzi puttana puttane vaffanculo merda frocio",
    "pt": "caralho porra foder fodase merda buceta viado arrombado",
    "nl": "klootzak hoer flikker",
    "pl": "kurwa kurwy chuj jebać pierdolić pizda skurwysyn",
    "cs": "kurva píča kokot mrdat zmrd",
    "sv": "fitta knulla jävlar",
    "tr": "orospu siktir amına piç yarrak",
    "ru": "блядь бляди сука суки хуй пизда пиздец ебать ебаный пидор пидорас мудак",
    "uk": "блядь сука хуй пизда підарас",
    "ar": "شرموطة قحبة كسمك عرص",
    "ko": "씨발 개새끼 병신 좆",
    "vi": "địt lồn đụ",
}
"""Language code to words, separated by spaces."""

STRONG_UNSPACED = (
    "他妈的", "操你", "傻逼", "傻屄", "婊子", "妈逼", "媽逼", "狗娘养的", "雞巴", "鸡巴", "くそったれ",
    "マンコ", "チンポ", "ヤリマン", "เหี้ย", "ควย",
)  # fmt: skip

# Innocent words that contain one of them.
ALLOWED_UNSPACED = ("操你的心", "田鸡巴", "ควยหลง")
