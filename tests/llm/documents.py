"""Documents and questions made for the embedded model: half of the questions are answered in them, half are not."""

DOCUMENTS = {
    "lamp.md": (
        "Warranty",
        """The Aurora lamp comes with a warranty of 24 months from the date of purchase. Batteries and bulbs are
not covered. To make a claim, send the receipt and a photo of the damage to support@aurora.example. Repairs take five
working days at our workshop in Lyon. We pay for return shipping within the European Union.

The lamp weighs 1.4 kilograms and is made of recycled aluminium. It must not be used outdoors. The light can be dimmed in
seven steps with the button on its base.""",
    ),
    "handbook.txt": (
        "Leave",
        """Employees are entitled to 28 days of paid vacation each year. Unused vacation expires on 31 March of the
following year. Requests are made in the portal at least two weeks ahead, and the team lead approves them.

Parental leave lasts up to 14 months and can be shared by both parents. Sick notes are required from the third day of an
illness. Remote work is allowed three days a week. Travel expenses are refunded within ten days once receipts are
uploaded.""",
    ),
    "history.pdf": (
        "",
        """The lighthouse of Cape Marrow was built in 1847 by the engineer Amalia Duarte. Its lamp burned whale oil
until 1902, when electricity reached the island. A storm destroyed the keeper's house in 1931. Today the tower is a museum
that is open from May to October. About 12,000 people visit it every year. The tower is 38 metres high and has 196
steps.""",
    ),
    "recipe.md": (
        "Lemon tart",
        """Preheat the oven to 180 degrees. Mix 200 grams of flour, 100 grams of butter and one egg to a dough and
let it rest in the fridge for an hour. Whisk the juice of four lemons with sugar, cream and three eggs. Bake the tart for
35 minutes. It keeps for two days in the fridge. Serve it with whipped cream.""",
    ),
    "release.md": (
        "Version 3.2",
        """Version 3.2 adds dark mode and export to CSV. The minimum memory is 4 GB, and 8 GB are recommended. Support
for Windows 7 was removed. The licence changed from GPL to MIT. A bug that lost drafts when the network failed is
fixed. Passwords must now have at least twelve characters. The next version is planned for November.""",
    ),
    "minutes.txt": (
        "Board meeting",
        """The board met on 4 June in Geneva. Carla Moreno was elected as chair with nine votes. Revenue grew by 12
percent to 48 million euros. The board approved a dividend of 0.85 euros per share. The factory in Porto will close at the
end of the year, and its 210 workers are offered positions in Braga.""",
    ),
}

ANSWERED = {
    "How long is the warranty of the Aurora lamp?": "24 months",
    "Are batteries covered by the warranty?": "not covered",
    "Where do repairs of the lamp take place?": "Lyon",
    "How heavy is the lamp?": "1.4 kilograms",
    "Can I use the lamp outdoors?": "must not be used outdoors",
    "How many days of vacation do employees get?": "28 days",
    "When does unused vacation expire?": "31 March",
    "How many days of remote work are allowed?": "three days a week",
    "When is a sick note required?": "third day",
    "Who built the lighthouse of Cape Marrow?": "Amalia Duarte",
    "In which months is the museum open?": "May to October",
    "How high is the tower?": "38 metres",
    "How many people visit the museum every year?": "12,000",
    "How long do I bake the tart?": "35 minutes",
    "How many lemons do I need for the juice?": "four lemons",
    "What is the minimum memory for version 3.2?": "4 GB",
    "Which licence does version 3.2 have?": "MIT",
    "How many characters must passwords have?": "twelve",
    "Who was elected as chair of the board?": "Carla Moreno",
    "What dividend did the board approve?": "0.85 euros",
}

UNANSWERED = [
    "What colours is the Aurora lamp sold in?",
    "Does the lamp work with a smart home?",
    "How much does the Aurora lamp cost?",
    "How many employees does the company have?",
    "What is the salary of a team lead?",
    "Which health insurance do employees get?",
    "Who painted the lighthouse red?",
    "What does a ticket for the museum cost?",
    "How many ships sank near the island?",
    "How many calories does the tart have?",
    "Which wine goes well with the dessert?",
    "Can the dough be frozen?",
    "Does version 3.2 run on Linux?",
    "Who wrote the code of the export?",
    "How do I reset my password?",
    "Who was the previous chair of the board?",
    "What is the share price today?",
    "When was the factory in Porto built?",
    "What is the capital of Peru?",
    "How do I change a tyre?",
]

# Written after the threshold was chosen.
ALSO_ANSWERED = {
    "What is the lamp made of?": "recycled aluminium",
    "How many steps can the light be dimmed in?": "seven steps",
    "Who approves vacation requests?": "team lead",
    "How long does parental leave last?": "14 months",
    "Until when did the lamp of the lighthouse burn whale oil?": "1902",
    "What destroyed the keeper's house?": "storm",
    "How many grams of butter are in the dough?": "100 grams",
    "How long does the lemon tart keep in the fridge?": "two days",
    "Support for which Windows was removed?": "Windows 7",
    "When is the next version planned?": "November",
    "By how much did revenue grow?": "12 percent",
    "How many workers does the factory in Porto have?": "210 workers",
}
ALSO_UNANSWERED = [
    "Which voltage does the lamp need?",
    "Who designed the Aurora lamp?",
    "Is there a bonus for long service?",
    "What time does work start in the morning?",
    "Is the lighthouse haunted?",
    "Who bought the island from the engineer?",
    "Which flour brand is best for the tart?",
    "Is dark mode the default?",
    "How many bugs were fixed in the last month?",
    "Where does Carla Moreno live?",
    "How large is the factory in Braga?",
    "What is the weather like in Geneva?",
]
