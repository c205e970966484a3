"""Closed-class words by language: articles, prepositions, conjunctions, pronouns, auxiliaries.

They tell connected language from lists of names, and one language from another. Ours, short on purpose:
a word is listed where speakers of the language use it in almost any sentence. Words of one letter are left
out where other languages use that letter as an initial.
"""

FUNCTION_WORDS: dict[str, str] = {
    "en": "a an the of in on at with to by for from is are was were be been being has have had this that "
    "these those there and or but as his her its their our your my over under above below left right "
    "near behind between into onto through during after before while along across around against among "
    "beside off up down out about like who which what when where how than then not it he she they we "
    "you i can will do does did if just so all may might could would should must shall me him them us "
    "because until since without within upon every each some any whose why only also very too here "
    "cannot don doesn isn didn wasn aren ain aint ive youre hes shes thats whats dont doesnt didnt cant wont isnt "
    "arent u ur nobody somebody everybody someone everyone anyone",
    "de": "der die das den dem des ein eine einem einen einer eines im in ins auf mit von vom zu zum zur ist sind "
    "war "
    "und oder hier für über unter am an bei beim aus nach vor hinter neben zwischen durch nicht auch sich wie wird "
    "werden hat haben ich du er sie es wir ihr sein seine seinem ihre als wenn so noch um kann nur was wo dass "
    "will wollen muss müssen soll sollen darf dürfen können hatte wurde wurden",
    "fr": "le la les un une des du de en avec sur dans est sont et au aux pour par qui que ce cette ces sous entre "
    "vers chez son sa ses plus pas ne il elle nous vous je on ou où a été être comme dont leur leurs mon ma mes "
    "se si",
    "es": "el la los las un una de del en con por para es son y que al su sus se lo como más no sobre entre desde "
    "hasta este esta estos estas fue ser está están sin muy mi tu ha han donde cuando o",
    "it": "il lo la i gli le un uno una di da del della dello dei degli delle al allo alla ai alle nel nella "
    "nei sul "
    "sulla dal dalla con su per che sono è e non si come più tra fra ed ha questo questa suo sua anche in ma o "
    "se ci",
    "pt": "o os as um uma do da dos das no na nos nas com para em ao aos à às por pelo pela que é são e de não se "
    "mais "
    "como foi seu sua sobre entre este esta ou ser está muito quando mas",
    "nl": "de het een van op met voor te zijn is en bij in aan uit naar door over onder tussen achter niet dat "
    "die dit "
    "deze ook als om maar wordt werd heeft hebben je ik hij zij we wij u er nog zo hoe wat of tot",
    "sv": "och i på är en ett att det den de med för av till som har inte om från vid under över mellan hos "
    "han hon vi du jag man sig sin var kan ska så men eller när efter in ut upp mig dig oss dem detta "
    "denna dessa alla mycket mer också blir blev finns får hade vara skulle vill mot utan sedan hur vad "
    "här där bara ni er min din mina dina sitt sina",
    "da": "og i på er en et at det den de med for af til som har ikke om fra ved under over mellem hos han "
    "hun vi du jeg man sig sin var kan skal så men eller når efter ind ud op der mig dig os dem dette "
    "denne disse alle meget mere også bliver blev findes får havde være skulle vil mod uden siden "
    "hvordan hvad her kun nu jer min din mine dine sit sine hvis",
    "no": "og i på er en et ei å at det den de med for av til som har ikke om fra ved under over mellom hos "
    "han hun vi du jeg man seg sin var kan skal så men eller når etter inn ut opp meg deg oss dem dette "
    "denne disse alle mye mer også blir ble finnes får hadde være skulle vil mot uten siden hvordan hva "
    "her bare nå dere min din mine dine sitt sine hvis",
    "fi": "ja on ei oli ovat se että joka kun mutta tai kuin myös sekä hän minä sinä ne tämä nämä sen niin "
    "jos vain kanssa jälkeen ennen päällä alla edessä takana vieressä mukaan sitten nyt olla ole olisi "
    "olivat eivät emme ette mitä mikä missä miten miksi kuka jonka jossa joita joiden tässä tästä tätä "
    "siitä sitä sille hänen heidän meidän teidän vielä jo aina kuitenkin vaan eli asti ilman noin yli "
    "kaikki oma omaa voi saa pitää",
    "pl": "i w we na z ze do od po dla za przez przy pod nad jest są był była nie się to ten ta te który "
    "która które oraz że jak o u czy ale lub jego jej ich tym tego przed między bez także już tylko "
    "bardzo może można będzie były gdzie kiedy co kto tak tu tam mu nas wam sobie swoje swój swoją jako "
    "więc dlaczego ponieważ podczas przeciw wobec według bo aby żeby by jeszcze którzy których którym "
    "wzdłuż wśród około obok wokół zanim ani albo jednak sam sama",
    "cs": "a v ve na z ze do od po pro za při pod nad je jsou byl byla se si to ten ta který která které že "
    "jak o u ale nebo jeho její jejich tím toho s k ke co jsme jste byly byli bude budou může mohou má "
    "mají již už jen také podle bez mezi před kde kdy kterou kterým kterých jako aby však tak ještě "
    "více svůj svou své mu ji jim nás vás i ani podél vedle kolem okolo během mimo proti kromě",
    "sk": "a v vo na z zo do od po pre za pri pod nad je sú bol bola sa si to ten tá ktorý ktorá ktoré že ako "
    "o u ale alebo jeho jej ich tým toho s k ku čo sme ste boli bolo bude budú môže môžu má majú už len "
    "aj tiež podľa bez medzi pred kde kedy ktorú ktorým ktorých aby však tak ešte viac svoj svoju svoje "
    "mu ju im nás vás i ani takto vám stačí pozdĺž vedľa okolo počas mimo proti okrem",
    "hu": "a az és egy van nem hogy is de ez azt ezt meg már csak mint vagy után előtt alatt fölött mellett "
    "között volt lesz ki be fel le aki ami amely hogyan így úgy ahogy amit akik akkor most itt ott "
    "voltak lett még sem se ne nagyon több minden össze át rá alatti szerint ellen nélkül által felé "
    "miatt során miért hol mikor ön én te mi ők neki nekünk ezek azok olyan ilyen sok két kell lehet",
    "ro": "și si de la cu în in pe din pentru este sunt un o al ai ale cel cea cei cele care că nu se mai sau "
    "dar fost prin după sub peste între lângă lui ei lor am au are avea era va vor fi îl îi îți îmi "
    "ne vă le mă te ca dacă când unde cum doar foarte chiar fără despre spre până acest această aceste "
    "acești",
    "tr": "ve bir bu da de için ile olan gibi daha çok en ne mi mı mu ki olarak var yok kadar sonra önce "
    "üzerinde altında içinde yanında her o ama veya ben sen biz siz onlar bunu bunun şu nasıl neden "
    "niçin nerede kim hangi değil oldu olduğu ise göre karşı doğru rağmen sadece diye hem ya ancak "
    "fakat çünkü artık hala bile yine kendi tüm bütün şey oluyor ediyor etti edildi yaptı",
    "id": "dan di yang dengan untuk dari ke pada ini itu adalah dalam oleh sebuah seorang akan tidak juga "
    "atau para sedang telah ada bisa karena saat atas bawah antara usai hingga jadi agar bagi serta "
    "sudah masih tetap meski namun tetapi ketika maupun melalui terhadap tersebut kami kita mereka dia "
    "ia nya lebih sangat lagi hanya setelah sebelum sampai seperti secara jika bukan apa siapa "
    "bagaimana mengapa punya pun saja baru ingin harus dapat tanpa kepada tentang aku kamu anda lu gua "
    "gue tak nggak",
    "vi": "là một của và trên trong với đang các những có để cho không này bên đến từ được người khi thì mà ở "
    "vào ra như cũng tại về hai đã sẽ bị vì do theo làm mới ông bà cô anh chị em họ nhất nhiều sau "
    "trước cùng phải rất hơn đó nào sao hay hoặc nhưng nếu vẫn còn chỉ đều mọi mỗi bằng qua lên xuống "
    "lại đi nhau gì ai cả thêm dù mình tôi bạn chúng ta nó dưới ngoài giữa ngày năm lần thứ",
    "ru": "и в во на с со по из для от до у за над под при о об к ко не что как это его её их он она они мы "
    "вы я который которая которые был была было быть или но а же нас вас им ими ему ей себя себе свой "
    "свои свою своего своей этот эта эти этого этой том тот та те того той тем так там тут уже ещё еще "
    "только если когда где чтобы чем кто чего между перед через без после около есть будет будут может "
    "можно нужно надо стал стала стали сказал всё все всех более очень также почему время вдоль вокруг "
    "против среди",
    "uk": "і й та в у на з із зі по для від до за над під при про не що як це його її їх він вона вони ми ви "
    "я який яка які був була або але нас вас їм йому їй себе свій свої свою цей ця ці цього цієї той "
    "тих тому так там тут вже ще тільки якщо коли де щоб хто між перед через без після біля є буде "
    "будуть може можна треба став стала стали все всіх більше дуже також чому яке яких якого якій час "
    "уздовж вздовж навколо проти серед",
    "bg": "и в във на с със по от за до над под при не че как това той тя те ние вие аз който която които е "
    "са беше или но се да го му им ги ни ви ми ти си този тази тези онзи кога къде защо само още вече "
    "много повече след между през без около има няма ще бил била бяха може трябва като също така",
    "el": "και το τα η ο οι του της των τον την στο στη στην στον στα με για από είναι ένα ένας μια που να "
    "δεν θα ή πως σε μας σας τους ήταν έχει έχουν τι πού πότε γιατί όταν αν αλλά μετά πριν μέχρι χωρίς "
    "κάτω πάνω μέσα έξω αυτό αυτή αυτός αυτά όλα όλοι πολύ πιο μόνο ακόμα κατά προς στους στις τις μου "
    "σου εγώ εσύ είχε κάθε",
    "ar": "في من على إلى عن مع هذا هذه التي الذي أن إن كان كانت هو هي لا ما بين بعد قبل تحت فوق عند أو ثم كل "
    "حول وهو وهي وهذا وهذه وقد قد لم لن ليس ليست كيف متى أين لماذا ماذا منه منها فيه فيها عليه عليها "
    "إليه إليها به بها له لها لهم بهم عنه عنها معه معها منذ حتى خلال ضد حيث عندما بعدما لكن ولكن بل لأن "
    "غير دون سوى أكثر جدا ومن وفي وعلى ولا وما تم يتم سوف نحن أنا أنت أنتم الى او ان اذا إذا كما هناك "
    "هنا ذلك تلك الذين بعض أي",
    "he": "של על את עם זה זו הוא היא הם לא כי או גם אל בין מן אשר יש אני כל מה איך לפני אחרי היה היתה היו אם "
    "אבל רק עוד כבר יותר מאוד כמו כאשר שלו שלה שלי שלך שלהם לו לה להם בו בה זאת אלה אלו למה מתי איפה מי "
    "אתה אנחנו אחד אחת עד ללא תחת מעל",
    "fa": "و در به از که با این را برای است آن یک بر تا می شد شده هم یا اما شود کرد کرده کند می‌شود "
    "می‌کند دارد دارند داشت نیست بود بودند خواهد باید چرا چه اگر خود هر چگونه کجا وقتی پس ولی نیز همه "
    "بین روی زیر بعد قبل بدون درباره آنها ما شما من او ایشان هستند",
    "hr": "je su i u na se da za od s sa iz do po o kao koji koja koje nije ili ali već samo bi će smo ste bio "
    "bila bilo što kako kada gdje "
    "jer uz pri nakon prije između bez protiv ovo ova ovaj taj ta to njegov njihov njegova sve još više mu mi "
    "ti ga ih",
    "sr": "је су и у на се да за од с са из до по о као који која које није или али већ само би ће смо сте био "
    "била било што "
    "шта како када где јер уз при након пре између без против ово ова овај тај та то његов све још више му ми "
    "ти га их",
    "sq": "të në e i dhe për me nga që është janë një si do u kjo ky këto më pas mbi nën pa ose por edhe kur ku "
    "çfarë duke kundër "
    "deri ka kanë ishte ishin nuk ndërsa sipas gjatë tek vetëm pse se",
    "hi": "और के का की में है हैं से को पर एक यह वह ने भी तो ही था थे थी कर लिए साथ या जो नहीं हुए हुआ हुई "
    "किया करते करने करता गया गई गए रहा रही रहे होता होती हो इस उस इन उन जब तब तक अब लेकिन अगर क्या "
    "क्यों कैसे कहाँ कौन मैं हम आप उनके उनकी इसके अपने अपनी सकते बाद द्वारा दिया",
}
"""Language code to words, separated by spaces."""

# A caption that ends on one of these was cut: what it announces is missing.
DANGLING: dict[str, str] = {
    "en": "and or with of the a for to by at from his her their its into between than as",
    "de": "und oder mit von vom der die das ein eine einem einen einer im zum zur für bei des dem den",
    "fr": "et ou avec de du des le les un une au aux pour par dans sur que qui",
    "es": "y con de del el los las un una para por en que a al",
    "it": "e con di del della il lo gli un una per nel nella",
    "pt": "e com de do da dos das os um uma para em",
    "nl": "en of met van het een voor",
    "ru": "и в на с из для от",
}

# They have no articles, so one word says as much as two elsewhere.
WITHOUT_ARTICLES = ("ru", "uk", "bg", "sr", "pl", "cs", "sk", "hr", "fi", "tr", "id", "vi", "hi", "fa")

# Particles, verbs and adverbs that sentences hardly do without, in scripts without spaces.
HAN = (
    "的了在是着有和与把被这个不没将会要能就都也还为从对让到来去那他她我你说上于以之后中里個這沒將會為從對讓來說後裡與"
    "时時称稱给給使令遭超欲已再又仍曾获獲带帶及或因但而若如所其该該每更最很太只才向由吗嗎吧呢啊么麼什"
)
KANA = "はがをにでのともへやるたて"
THAI_WORDS = (
    "ที่",
    "ของ",
    "และ",
    "ใน",
    "เป็น",
    "มี",
    "กับ",
    "บน",
    "ให้",
    "ไม่",
    "จาก",
    "ได้",
    "จะ",
    "ว่า",
    "ไป",
    "มา",
    "อยู่",
    "คือ",
)
# Last syllable of a Korean word that carries a case or an ending.
KOREAN_ENDINGS = "은는이가을를에의로와과도서한다"

# English words in -ing and -ed that name or praise a thing; they are no participles.
THINGS = (
    "wedding weddings building painting drawing clothing evening morning ceiling spring string nothing something "
    "anything everything during earring boxing meeting engraving printing lighting flooring icing pudding dumpling "
    "parking beijing boeing viking training housing bedding bring being speed hundred "
    "limited unlimited united embed framed printed advanced certified refurbished licensed sided sized "
    "dressing stuffing pricing catering advertising marketing engineering shipping packaging fishing racing "
    "stocking coating seating siding steering sterling darling"
)

ENDINGS: dict[str, tuple[str, str]] = {
    "hu": (
        "őűöüáóúí",
        "ban ben val vel nak nek ból ből ról ről ral rel hoz hez tól től ként kel gal gel kat ket ása ése ött "
        "ják jük unk ünk",
    ),
    "fi": ("äöå", "ssa ssä sta stä lla llä lta ltä lle een iin ään nut nyt vat vät taan tään eet isi"),
    "tr": ("ışğçöü", "dı dü tı tü yor mış miş müş muş dan den tan ten nın nin nün nun ması mesi ında inde ndan nden"),
    "pl": ("ąęłśżźćńó", "ją ła ło ął ała iła ył ego emu ych ach ami ować ić ać eć ymi imi anie enie"),
    "cs": ("ěřůčšžýáíéúôľĺŕťďň", "uje ují ovat ých ého ému ými ách ami ení ání ili ala ila alo ilo"),
    "ro": ("ăâîșțşţ", "ului ilor elor ează esc eşte ește ată ați ind ând"),
    "hr": ("čćšžđ", "ima ama ije ila ala ili ali ilo alo iti ati uje"),
    "ru": (
        "аеиоуыюяіїє",
        "ила ала яла ела ило ало яло или али яли ели ить ать ять еть тся ться лся лась лись лось ает яет ует ют ют "
        "ают яют ит ат ят уют ив ав или вав вала или ення ання",
    ),
}
"""By language: letters one of which a caption must have, and ends of verbs and of nouns with a case.

Where a language says by endings what others say by small words, the first of them counts as one.
"""
