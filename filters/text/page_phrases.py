"""Phrases that pages say about themselves: buttons, menus, errors, stand-ins. Ours; add to them freely.

Words are matched whole and in this order, `*` stands for one more word; substrings for scripts without spaces.
"""

FURNITURE = (
    # English
    "add to cart", "add to basket", "add to bag", "add to wishlist", "buy now", "shop now", "order now", "book now",
    "click here", "click here to * * * *", "click to *", "click to enlarge", "click to view *", "click for *",
    "click image to *", "tap to *", "view larger image", "view larger", "view full size", "view image", "view all",
    "view more", "view profile", "see more", "see all", "show more", "load more", "read more", "read more about *",
    "learn more", "find out more", "more info", "skip to content", "skip to main content", "skip to navigation",
    "share on *", "share this", "share via *", "share to *", "follow us", "follow us on *", "like us on *",
    "sign in", "sign up", "log in", "log out", "login", "register", "create account", "my account",
    "forgot password",
    "load image into gallery viewer", "loading", "please wait", "next page", "next slide", "next image",
    "next post",
    "previous page", "previous slide", "previous image", "previous post", "go to slide *", "main menu",
    "menu", "toggle navigation", "toggle menu", "open menu", "close menu", "close", "navigation", "home page",
    "homepage", "home", "back to top", "scroll to top", "back to home", "go to homepage", "go back",
    "back to list", "back to overview", "back to homepage", "back to the homepage", "back to search",
    "back to results",
    "back to blog", "back to shop", "back to menu", "back to news", "back to main", "back to main page",
    "back to start",
    "back to the top", "back to login", "back to article", "back to gallery", "back to all *",
    "all rights reserved", "copyright", "terms of service", "terms of use", "terms and conditions",
    "privacy policy",
    "cookie policy", "cookie settings", "accept cookies", "we use cookies", "free shipping", "free delivery",
    "add review", "write a review", "leave a comment", "post a comment", "reply", "subscribe", "subscribe now",
    "subscribe to our newsletter", "subscribe to the newsletter", "subscribe to *", "subscribe for * * * * * *",
    "newsletter", "contact us",
    "about us", "search", "search for *", "download now", "download on the app store", "get it on google play",
    "available on the app store", "download the app", "play video", "watch video", "play button", "video player",
    "print this page", "print page", "email this", "send to a friend", "pin it", "save to *", "tweet this",
    "facebook icon", "twitter icon", "instagram icon", "youtube icon", "linkedin icon", "pinterest icon",
    "facebook logo", "twitter logo", "instagram logo", "rss feed", "advertisement", "sponsored", "ad choices",
    "thumbnail for *", "thumbnail for * * *", "gallery image *", "image gallery", "photo gallery", "site logo",
    "company logo", "profile picture", "profile photo", "user avatar", "avatar", "featured image", "header image",
    "background image", "hero image", "banner image", "cover image", "stock photo", "image credit", "photo credit",
    # German
    "in den warenkorb", "zum warenkorb", "mehr erfahren", "mehr lesen", "weiterlesen", "hier klicken",
    "jetzt kaufen",
    "jetzt bestellen", "zum inhalt springen", "zum seitenanfang", "nach oben", "zur startseite", "startseite",
    "anmelden", "registrieren", "einloggen", "newsletter abonnieren", "alle rechte vorbehalten", "datenschutz",
    "impressum", "bild vergrößern", "klicken sie hier", "teilen auf *", "menü", "suche", "anzeige",
    "zum artikel", "zur kasse", "profilbild", "logo von *", "cookies akzeptieren", "weiter zu *", "mehr anzeigen",
    # French, Spanish, Italian, Portuguese, Dutch
    "en savoir plus", "lire la suite", "ajouter au panier", "cliquez ici", "voir plus", "se connecter", "connexion",
    "accueil", "tous droits réservés", "partager sur *", "retour en haut", "aller au contenu", "acheter maintenant",
    "leer más", "ver más", "añadir al carrito", "haga clic aquí", "haz clic aquí", "iniciar sesión",
    "saltar al contenido",
    "todos los derechos reservados", "compartir en *", "comprar ahora", "inicio", "volver arriba",
    "política de cookies",
    "leggi tutto", "scopri di più", "aggiungi al carrello", "clicca qui", "accedi", "tutti i diritti riservati",
    "condividi su *", "torna su", "vai al contenuto", "leia mais", "saiba mais", "adicionar ao carrinho",
    "clique aqui",
    "todos os direitos reservados", "compartilhar no *", "lees meer", "meer informatie", "in winkelwagen",
    "klik hier",
    "delen op *", "naar de inhoud", "alle rechten voorbehouden", "ga naar *",
    # Nordic, Polish, Czech, Turkish, Indonesian, Vietnamese
    "läs mer", "läs mera", "klicka här", "lägg i varukorgen", "les mer", "klikk her", "læs mere", "klik her",
    "lue lisää", "czytaj więcej", "dodaj do koszyka", "kliknij tutaj", "zobacz więcej", "číst více", "do košíku",
    "klikněte zde", "devamını oku", "sepete ekle", "baca selengkapnya", "klik di sini", "xem thêm", "đọc thêm",
    # Russian, Ukrainian, Greek, Arabic, Hebrew, Korean, Hindi
    "читать далее", "подробнее", "узнать больше", "добавить в корзину", "в корзину", "нажмите здесь", "войти",
    "регистрация", "главная", "все права защищены", "поделиться", "показать ещё", "наверх", "читати далі",
    "детальніше", "διαβάστε περισσότερα", "περισσότερα", "اقرأ المزيد", "المزيد", "اضغط هنا", "تسجيل الدخول",
    "قرא עוד", "קרא עוד", "לחץ כאן", "더 보기", "더보기", "장바구니", "로그인", "회원가입", "और पढ़ें",
)  # fmt: skip

FURNITURE_UNSPACED = (
    "点击查看大图", "点击查看", "点击进入", "点击下载", "查看更多", "查看大图", "查看详情", "更多",
    "加入购物车", "立即购买", "返回首页", "首页",
    "上一篇", "下一篇", "上一页", "下一页", "加载中", "版权所有", "扫描二维码", "扫一扫", "关注我们", "分享到",
    "登录", "注册", "返回顶部",
    "點擊查看", "查看更多", "加入購物車", "返回首頁", "上一頁", "下一頁", "版權所有", "登入", "註冊",
    "もっと見る", "続きを読む", "詳細を見る", "詳しくはこちら", "こちらをクリック", "カートに入れる",
    "トップへ戻る", "ページトップへ", "ページの先頭へ",
    "このページの先頭", "トップへ", "ログイン", "会員登録", "前へ", "次へ",
    "一覧へ", "一覧を見る", "メニュー",
    "シェアする", "ツイートする", "お問い合わせ",
    "อ่านเพิ่มเติม", "ดูเพิ่มเติม", "คลิกที่นี่", "หยิบใส่ตะกร้า", "เข้าสู่ระบบ",
)  # fmt: skip

# These begin like page furniture and are something else.
INNOCENT = (
    "close up", "close ups", "close to *", "close encounters", "home of *", "home made", "home sweet home",
    "at home",
    "home alone", "home office", "home decor", "home cooking", "search and rescue", "in search of", "reply to *",
    "menu of *", "avatar the *", "loading dock", "loading bay", "human error", "trial and error", "error of *",
)  # fmt: skip

ERRORS = (
    "error", "page not found", "not found", "file not found", "image not found", "access denied",
    "access forbidden", "permission denied", "enable javascript", "please enable javascript",
    "javascript is disabled", "javascript required", "your browser does not support * * *", "image unavailable",
    "image not available", "image is not available", "picture not available", "photo not available",
    "this image is no longer available", "this image is not available", "video unavailable", "content unavailable",
    "not available", "image removed", "image has been removed", "server error", "internal server error",
    "bad gateway", "service unavailable", "bad request", "connection timed out", "something went wrong",
    "an error occurred", "captcha", "broken image", "missing image", "image missing", "image failed to load",
    "failed to load", "hotlinking not allowed", "bandwidth limit exceeded", "account suspended",
    "seite nicht gefunden", "bild nicht gefunden", "bild nicht verfügbar", "zugriff verweigert", "fehler",
    "page introuvable", "image non disponible", "accès refusé", "página no encontrada", "imagen no disponible",
    "acceso denegado", "pagina non trovata", "immagine non disponibile", "página não encontrada",
    "imagem indisponível", "pagina niet gevonden", "afbeelding niet beschikbaar", "страница не найдена",
    "изображение недоступно", "доступ запрещен", "изображение отсутствует", "nie znaleziono strony",
    "brak zdjęcia", "الصفحة غير موجودة", "페이지를 찾을 수 없습니다",
)  # fmt: skip

ERRORS_UNSPACED = (
    "图片不存在", "图片加载失败", "无法显示", "页面不存在", "找不到页面", "暂无图片", "图片已删除",
    "图片无法显示", "訪問被拒絕", "圖片不存在",
    "画像がありません", "画像はありません", "画像が見つかりません", "ページが見つかりません", "ไม่พบหน้า",
    "ไม่มีรูปภาพ",
)  # fmt: skip

STAND_INS = (
    "placeholder", "image placeholder", "placeholder image", "photo placeholder", "coming soon",
    "image coming soon",
    "photo coming soon", "no image", "no image available", "no photo", "no photo available", "no picture",
    "no picture available", "no thumbnail", "no title", "untitled", "untitled document", "default", "default image",
    "null", "none", "undefined", "nan", "n a", "test", "test image", "alt", "alt text", "alt tag", "image",
    "images",
    "image alt", "image alt text", "image description", "image title", "image name", "photo", "photos", "img",
    "picture", "pictures", "pic", "thumbnail", "thumb", "logo", "icon", "banner", "figure", "fig", "spacer",
    "blank",
    "enter caption here", "caption", "insert caption here", "your alt text here", "description", "dsc", "unnamed",
    "bild", "foto", "kein bild", "kein bild verfügbar", "platzhalter", "platzhalterbild", "ohne titel",
    "sans titre",
    "sin título", "senza titolo", "sem título", "pas d image", "imagen", "immagine", "imagem", "afbeelding",
    "geen afbeelding", "bez tytułu", "zdjęcie", "фото", "картинка", "изображение", "без названия", "нет фото",
    "صورة", "תמונה", "이미지", "사진",
)  # fmt: skip

STAND_INS_UNSPACED = (
    "图片",
    "默认图片",
    "占位图",
    "暂无",
    "無題",
    "画像",
    "写真",
    "准备中",
    "準備中",
    "イメージ",
    "サムネイル",
    "รูปภาพ",
)

# First words of the names that cameras and telephones give.
CAMERA_WORDS = "img dsc dscn dscf dji pxl mvimg vid gopr screen screenshot image photo untitled wp whatsapp p"

# These are no caption wherever they stand.
STAND_INS_ANYWHERE = (
    "lorem ipsum",
    "image placeholder",
    "placeholder image",
    "no image available",
    "enter caption here",
)
