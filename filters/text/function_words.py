"""Closed-class words by language: articles, prepositions, conjunctions, pronouns, auxiliaries.

They tell connected language from lists of names, and one language from another. Ours, short on purpose:
a word is listed where speakers of the language use it in almost any sentence. Words of one letter are left
out where other languages use that letter as an initial.
"""

FUNCTION_WORDS: dict[str, str] = {
    "en": "a an the of in on at with to by for from is are was were be been being has have had this that these those "
    "there and or but as his her its their our your my over under above below left right near behind between into "
    "onto through during after before while along across around against among beside off up down out about like "
    "who which what when where how than then not it he she they we you i can will do does did if just so all",
    "de": "der die das den dem des ein eine einem einen einer eines im in ins auf mit von vom zu zum zur ist sind "
    "war "
    "und oder hier für über unter am an bei beim aus nach vor hinter neben zwischen durch nicht auch sich wie wird "
    "werden hat haben ich du er sie es wir ihr sein seine seinem ihre als wenn so noch um kann nur was wo dass",
    "fr": "le la les un une des du de en avec sur dans est sont et au aux pour par qui que ce cette ces sous entre "
    "vers chez son sa ses plus pas ne il elle nous vous je on ou où a été être comme dont leur leurs mon ma mes "
    "se si",
    "es": "el la los las un una de del en con por para es son y que al su sus se lo como más no sobre entre desde "
    "hasta este esta estos estas fue ser está están sin muy mi tu ha han donde cuando o",
    "it": "il lo la i gli le un uno una di da del della dello dei degli delle al allo alla ai alle nel nella nei sul "
    "sulla dal dalla con su per che sono è e non si come più tra fra ed ha questo questa suo sua anche in ma o se ci",
    "pt": "o os as um uma do da dos das no na nos nas com para em ao aos à às por pelo pela que é são e de não se "
    "mais "
    "como foi seu sua sobre entre este esta ou ser está muito quando mas",
    "nl": "de het een van op met voor te zijn is en bij in aan uit naar door over onder tussen achter niet dat "
    "die dit "
    "deze ook als om maar wordt werd heeft hebben je ik hij zij we wij u er nog zo hoe wat of tot",
    "sv": "och i på är en ett att det den de med för av till som har inte om från vid under över mellan hos han hon "
    "vi du jag man sig sin var kan ska så men eller när efter in ut upp",
    "da": "og i på er en et at det den de med for af til som har ikke om fra ved under over mellem hos han hun vi du "
    "jeg man sig sin var kan skal så men eller når efter ind ud op der",
    "no": "og i på er en et ei å at det den de med for av til som har ikke om fra ved under over mellom hos han hun "
    "vi du jeg man seg sin var kan skal så men eller når etter inn ut opp",
    "fi": "ja on ei oli ovat se että joka kun mutta tai kuin myös sekä hän minä sinä ne tämä nämä sen niin jos vain "
    "kanssa jälkeen ennen päällä alla edessä takana vieressä mukaan sitten nyt",
    "pl": "i w we na z ze do od po dla za przez przy pod nad jest są był była nie się to ten ta te który która które "
    "oraz że jak o u czy ale lub jego jej ich tym tego",
    "cs": "a v ve na z ze do od po pro za při pod nad je jsou byl byla se si to ten ta který která které že jak o u "
    "ale nebo jeho její jejich tím toho s k ke co",
    "sk": "a v vo na z zo do od po pre za pri pod nad je sú bol bola sa si to ten tá ktorý ktorá ktoré že ako o u "
    "ale "
    "alebo jeho jej ich tým toho s k ku čo",
    "hu": "a az és egy van nem hogy is de ez azt ezt meg már csak mint vagy után előtt alatt fölött mellett között "
    "volt lesz ki be fel le aki ami amely",
    "ro": "și si de la cu în in pe din pentru este sunt un o al ai ale cel cea cei cele care că nu se mai sau dar "
    "fost prin după sub peste între lângă lui ei lor",
    "tr": "ve bir bu da de için ile olan gibi daha çok en ne mi mı mu ki olarak var yok kadar sonra önce üzerinde "
    "altında içinde yanında her o ama veya",
    "id": "dan di yang dengan untuk dari ke pada ini itu adalah dalam oleh sebuah seorang akan tidak juga atau para "
    "sedang telah ada bisa karena saat atas bawah antara",
    "vi": "là một của và trên trong với đang các những có để cho không này bên đến từ được người khi thì mà ở vào ra "
    "như cũng tại về hai",
    "ru": "и в во на с со по из для от до у за над под при о об к ко не что как это его её их он она они мы вы я "
    "который которая которые был была было быть или но а же",
    "uk": "і й та в у на з із зі по для від до за над під при про не що як це його її їх він вона вони ми ви я який "
    "яка які був була або але",
    "bg": "и в във на с със по от за до над под при не че как това той тя те ние вие аз който която които е са беше "
    "или но се да",
    "el": "και το τα η ο οι του της των τον την στο στη στην στον στα με για από είναι ένα ένας μια που να δεν θα ή "
    "πως σε μας σας τους",
    "ar": "في من على إلى عن مع هذا هذه التي الذي أن إن كان كانت هو هي لا ما بين بعد قبل تحت فوق عند أو ثم كل حول",
    "he": "של על את עם זה זו הוא היא הם לא כי או גם אל בין מן אשר יש אני כל מה איך לפני אחרי",
    "fa": "و در به از که با این را برای است آن یک بر تا می های شد شده هم یا اما",
    "hi": "और के का की में है हैं से को पर एक यह वह ने भी तो ही था थे थी कर लिए साथ या जो नहीं",
}
"""Language code to words, separated by spaces."""

# A caption that ends on one of these was cut: what it announces is missing.
DANGLING: dict[str, str] = {
    "en": "and or with of the a an for to by at from his her their its into between than as",
    "de": "und oder mit von vom der die das ein eine einem einen einer im zum zur für bei des dem den",
    "fr": "et ou avec de du des le les un une au aux pour par dans sur",
    "es": "y con de del el los las un una para por en",
    "it": "e con di del della il lo gli un una per nel nella",
    "pt": "e com de do da dos das os um uma para em",
    "nl": "en of met van het een voor",
    "ru": "и в на с из для от",
}

# They have no articles, so one word says as much as two elsewhere.
WITHOUT_ARTICLES = ("ru", "uk", "bg", "pl", "cs", "sk", "fi", "tr", "id", "hi", "fa")

# Particles and endings that sentences hardly do without, in scripts without spaces.
PARTICLES = (
    "的了在是着有和与把被这个不没将会要能就都也还为从对让到来去那他她我你说上于以之后中里個這沒將會為從對讓來說後裡與"
    "はがをにでのともへや"
)
THAI_WORDS = ("ที่", "ของ", "และ", "ใน", "เป็น", "มี", "กับ", "บน", "ให้", "ไม่")
# Last syllable of a Korean word that carries a case or an ending.
KOREAN_ENDINGS = "은는이가을를에의로와과도서한다"
