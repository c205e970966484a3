"""Verbs that headlines and captions are made of, by language: finite forms that name no thing.

A closed-class word or two tell a sentence; a headline often has one of them and a verb. Ours, short on purpose:
forms that are nouns as well ("plans", "faces") are left out, and so are the words of buttons ("get", "find").
"""

VERBS: dict[str, str] = {
    "en": "says said gives gave takes took goes went comes came knows knew thinks sees becomes became finds "
    "wants tells told asks brings brought holds held keeps kept loses lets meets pays reads runs ran "
    "sends sent shows sits sat stood tries wins won writes wrote wears wore rides rode eats ate drives "
    "drove attends arrives celebrates captures performs speaks poses announces unveils reveals launches "
    "confirms denies warns urges kills dies proves seems helps begins began grows grew explains prepares "
    "joins enters enjoys appears remains chooses threw breaks broke builds teaches taught sings sang "
    "spends spent sells gets makes believes happens learns harvests agrees accuses arrests defends "
    "declares defeats reacts responds welcomes rehearses gonna kinda wanna know think remember realize "
    "got forgot",
    "de": "geht gehen kommt kommen macht machen sagt steht stehen sitzt sitzen liegt liegen läuft fährt spielt "
    "spielen zeigt zeigen gibt geben nimmt nehmen sieht sehen findet bleibt bleiben hält halten bekommt "
    "bekommen trägt tragen fordert fordern soll sollen muss müssen dürfen möchte lässt lassen weiß kam "
    "ging machte wollte gab nahm gewinnt gewinnen verliert hilft helfen schützt schützen bringt bringen "
    "erhält empfängt erinnert erklärt spricht sprechen feiert startet beginnt warnt kündigt kündigen "
    "stellt stellen setzt freut freuen wartet arbeitet lebt isst trinkt heißt passt gehört diskutierten "
    "verrät gelingt verlässt wächst steigt fällt zieht schreibt liest hört sucht kauft verkauft besucht "
    "trifft tritt posiert präsentiert präsentieren eröffnet können könnt konnte wurde wurden hatte werden "
    "wollen wünscht wünschen",
    "fr": "peut peuvent veut doit doivent vient viennent prend voit tient arrive annonce remporte devient "
    "attend découvre présente rencontre assister découvrir propose gagne vont faut avait était étaient "
    "cherche trouve pense",
    "es": "hace hacen puede pueden quiere debe viene tiene tienen llega anuncia gana celebra presenta juega "
    "vuelve corre camina había busca sigue",
    "it": "può possono vuole deve viene vengono vince arriva presenta diventa gioca cerca vanno hanno aveva "
    "torna trova celebra",
    "pt": "pode podem quer deve fazem diz tem vem vence chega anuncia tinha ganha joga corre vira",
    "nl": "gaat gaan komt komen maakt maken zegt staat staan zit ligt loopt speelt krijgt wint moet kunnen "
    "blijft rijdt houdt laat vindt hadden zitten liggen geeft",
    "sv": "går kommer säger står ligger gör spelar vinner håller visar möter börjar blev tycker behöver måste åker",
    "da": "går kommer siger står sidder ligger gør spiller løber viser møder begynder skulle måtte kører",
    "pl": "mają mówi robi idzie stoi siedzi leży chce chcą został została zostały wygrał wygrała trwa czeka",
    "tr": "oldu etti istedi kaybetti geldi gitti dedi aldı verdi",
}
"""Language code to words, separated by spaces."""

_HAN = (
    "宣布 表示 举行 舉行 召开 召開 开展 開展 进行 進行 发布 發布 發佈 公布 公佈 推出 上线 亮相 曝光 自曝 "
    "披露 揭露 揭秘 透露 回应 回應 拒绝 拒絕 同意 要求 呼吁 呼籲 警告 批评 批評 指责 指責 承认 承認 否认 "
    "否認 确认 確認 证实 證實 调查 調查 逮捕 被捕 起诉 起訴 判决 判处 判死 通缉 通緝 击落 击败 擊敗 战胜 "
    "險勝 险胜 再夺 夺冠 奪冠 获胜 晋级 入选 入選 退出 加入 参加 參加 出席 担任 擔任 出任 任命 任免 当选 "
    "當選 辞职 履新 访问 訪問 访台 抵达 抵達 返回 返程 离开 離開 前往 进入 進入 走进 走進 走红 来袭 來襲 "
    "来临 来到 來到 到来 迎来 迎接 爆发 爆發 发生 發生 出现 出現 惊现 驚現 成为 成為 变成 變成 打造 建成 "
    "启动 啟動 启用 试运 实施 實施 实现 實現 提升 提高 提供 提议 增加 新增 减少 下降 上涨 上升 收涨 暴跌 "
    "跌停 减持 出货 突破 超过 超過 达到 達到 包括 属于 屬於 位于 位於 认为 認為 觉得 觉着 希望 喜欢 喜歡 "
    "想要 需要 必须 必須 必读 值得 应该 應該 可以 能够 能夠 愿意 願意 知道 看到 看见 看見 听到 发现 發現 "
    "找到 得到 获得 獲得 收到 遇到 遇见 偶遇 遭遇 邂逅 面临 面臨 面对 面對 导致 導致 造成 引发 引發 令人 "
    "让人 使用 利用 采用 採用 选择 選擇 通过 通過 根据 根據 按照 关于 關於 对于 對於 由于 由於 因为 因為 "
    "所以 但是 而且 如果 虽然 雖然 或者 以及 如何 怎么 怎麼 怎样 怎樣 什么 什麼 哪些 哪里 哪裡 多少 多次 "
    "谁赢 我们 我們 你们 他们 他們 她们 它们 自己 大家 这些 那些 这里 此前 没有 沒有 不是 就是 还是 還是 "
    "已经 已經 正在 首次 再次 再度 终于 終於 突然 竟然 居然 仍然 依然 一起 一直 一样 非常 十分 更加 一个 "
    "一個 一位 一名 一张 一張 一只 一隻 一件 一份 一场 一群 一条 一座 一幅 一款 两个 兩個 两名 三名 名单 "
    "之间 之前 以来 以來 期间 站在 坐在 穿上 穿着 拿着 看着 怀疑 懷疑 放弃 放棄 坚持 堅持 开始 開始 结束 "
    "結束 继续 繼續 停止 取消 暂停 暫停 暂缓 剥离 调整 关闭 打开 打開 开启 開啟 开放 開放 拆解 拆除 登陆 "
    "登上 登场 现身 落户 牵手 直通 守住 支持 反对 反對 保护 保護 止痒 帮助 幫助 助你 教你 告诉 告訴 带来 "
    "带你 学会 學會 讲述 講述 介绍 介紹 解读 解讀 欢迎 歡迎 祝贺 感谢 感謝 多谢 模仿 离世 逝世 去世 病亡 "
    "身亡 受伤 受傷 遇难 失控 下落 起火 坠毁 相撞 撞上 倾覆 溢出 告急 拖行 偷盗 盗窃 强奸 闯入 袭击 襲擊 "
    "瘫痪 抗议 抗議 内讧 哭红 庆祝 慶祝 庆生 结婚 結婚 联姻 怀孕 分娩 求婚 示爱 追梦 圆梦 嫁给 低调 收购 "
    "收購 出售 卖身 谈判 开售 发售 發售 打砸 捣乱 狂撒 造势 威胁 隐患 罕见 秀腿 征友 重回 返场 欲把 用于 "
    "用於 适用 源于 来自 來自 赴台 追悼 逃往 消失 解决 改变 忘关 齐发 竞逐 惨变 见面 见到 不惧 落幕 官司 "
    "成功 失败"
)
HAN_WORDS = tuple(_HAN.split())
"""Chinese verbs, adverbs, question words and counted nouns, of two characters: no space tells them apart."""
