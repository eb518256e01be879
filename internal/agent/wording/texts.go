package wording

// Texts are what users are told, in one language. What may be filled in is
// named beside each group.
type Texts struct {
	// Language is the table's own.
	Language Language

	// Why something was refused: {app}, {host}.
	AppBlocked, AppWarned, HostBlocked, HostWarned string

	// A notification of a refusal: {app}, {host}, {program}, {reason},
	// {contact}.
	BlockedTitle, WarnedTitle, Body string
	// Who is meant where nothing says it.
	AProgram, OurSupport string
	// The buttons of a notification.
	Why, Request, Continue string

	// What became of a button, or of a request: {app}, {until}, {note}.
	ContinuedTitle, ContinuedBody   string
	RequestedTitle, RequestedBody   string
	ApprovedTitle, ApprovedBody     string
	DeniedTitle, DeniedBody         string
	WithdrawnTitle, WithdrawnBody   string
	ApprovedUnlimitedBody, NoteSays string

	// The why page: {app}, {host}, {until}, {contact}.
	PageBlocked, PageWarned, PageOpen               string
	App, Address, Program, Time, Attempts, Policy   string
	Indicator, Evidence, Details                    string
	AskHeading, AskBody, AskLink                    string
	ContinueHeading, ContinueBody, ContinueButton   string
	RequestHeading, RequestBody, RequestButton      string
	Reason, ReasonOptional, ReasonHelp              string
	Continued, Pending, Approved, ApprovedUnlimited string
	Denied, Withdrawn, Note, TryAgain               string
	PageMissing, PageMissingBody                    string
	FaultReason, FaultTooMany                       string
	FaultOther                                      string

	// clock and date are layouts of package time.
	clock, date string
}

func english() *Texts {
	return &Texts{
		Language: English,

		AppBlocked:  "Your organisation does not allow {app} on this device.",
		AppWarned:   "Your organisation advises against {app}. You may go on if you need it.",
		HostBlocked: "Your organisation does not allow connections to {host} from this device.",
		HostWarned:  "Your organisation advises against connections to {host}. You may go on if you need to.",

		BlockedTitle: "{app} is blocked",
		WarnedTitle:  "{app}: do you want to go on?",
		Body:         "{program} tried to connect to {host}. {reason} Questions? Ask {contact}.",
		AProgram:     "A program",
		OurSupport:   "your IT support",
		Why:          "Why?",
		Request:      "Request access",
		Continue:     "Continue",

		ContinuedTitle:        "You may go on",
		ContinuedBody:         "You can use {app} until {until}. Please try again.",
		RequestedTitle:        "Access to {app} requested",
		RequestedBody:         "You will be told here when it is decided.",
		ApprovedTitle:         "Access to {app} approved",
		ApprovedBody:          "You can use {app} until {until}.",
		ApprovedUnlimitedBody: "You can use {app} from now on.",
		DeniedTitle:           "Access to {app} denied",
		DeniedBody:            "Your request was not approved.",
		WithdrawnTitle:        "Access to {app} ended",
		WithdrawnBody:         "The approval was taken back.",
		NoteSays:              "The administrator says: {note}",

		PageBlocked:       "{app} is blocked",
		PageWarned:        "{app}: do you want to go on?",
		PageOpen:          "You can use {app}",
		App:               "App",
		Address:           "Address",
		Program:           "Program",
		Time:              "Last attempt",
		Attempts:          "First attempt",
		Policy:            "Policy",
		Indicator:         "Indicator",
		Evidence:          "Recognised by",
		Details:           "Details for your IT support",
		AskHeading:        "Whom to ask",
		AskBody:           "Ask {contact} if you think that this is wrong.",
		AskLink:           "Open the help page of your organisation",
		ContinueHeading:   "Go on all the same",
		ContinueBody:      "You may go on for a while. That you did is recorded.",
		ContinueButton:    "Continue",
		RequestHeading:    "Request access",
		RequestBody:       "An administrator decides. You will be told here and on your desktop.",
		RequestButton:     "Request access",
		Reason:            "Reason",
		ReasonOptional:    "Reason (optional)",
		ReasonHelp:        "What do you need it for? At most 500 characters. Administrators can read it.",
		Continued:         "You can use {app} until {until}.",
		Pending:           "You requested access. It is not decided yet.",
		Approved:          "Your request was approved. You can use {app} until {until}.",
		ApprovedUnlimited: "Your request was approved. You can use {app}.",
		Denied:            "Your request was not approved.",
		Withdrawn:         "Your request was approved, and the approval was taken back.",
		Note:              "The administrator says:",
		TryAgain:          "Go back to the program and try again.",
		PageMissing:       "There is nothing here",
		PageMissingBody:   "This page is not there, or not for you, or more than a day old. Try again what was refused to get a new one.",
		FaultReason:       "Please give a reason, in plain text of at most 500 characters.",
		FaultTooMany:      "That was too often. Please wait for a while.",
		FaultOther:        "That cannot be done now. This is the state of things:",

		clock: "15:04",
		date:  "2 January 2006, 15:04",
	}
}

func german() *Texts {
	return &Texts{ //nolint:gosec // AppWarned holds the letters pw and is no password
		Language: German,

		AppBlocked:  "Ihre Organisation erlaubt {app} auf diesem Gerät nicht.",
		AppWarned:   "Ihre Organisation rät von {app} ab. Sie dürfen fortfahren, wenn Sie es brauchen.",
		HostBlocked: "Ihre Organisation erlaubt von diesem Gerät keine Verbindungen zu {host}.",
		HostWarned:  "Ihre Organisation rät von Verbindungen zu {host} ab. Sie dürfen fortfahren, wenn es nötig ist.",

		BlockedTitle: "{app} ist gesperrt",
		WarnedTitle:  "{app}: Möchten Sie fortfahren?",
		Body:         "{program} wollte sich mit {host} verbinden. {reason} Fragen beantwortet: {contact}.",
		AProgram:     "Ein Programm",
		OurSupport:   "Ihre IT-Abteilung",
		Why:          "Warum?",
		Request:      "Zugriff beantragen",
		Continue:     "Fortfahren",

		ContinuedTitle:        "Sie dürfen fortfahren",
		ContinuedBody:         "Sie können {app} bis {until} nutzen. Bitte versuchen Sie es erneut.",
		RequestedTitle:        "Zugriff auf {app} beantragt",
		RequestedBody:         "Sie erfahren hier, wie entschieden wird.",
		ApprovedTitle:         "Zugriff auf {app} genehmigt",
		ApprovedBody:          "Sie können {app} bis {until} nutzen.",
		ApprovedUnlimitedBody: "Sie können {app} von jetzt an nutzen.",
		DeniedTitle:           "Zugriff auf {app} abgelehnt",
		DeniedBody:            "Ihr Antrag wurde nicht genehmigt.",
		WithdrawnTitle:        "Zugriff auf {app} beendet",
		WithdrawnBody:         "Die Genehmigung wurde zurückgenommen.",
		NoteSays:              "Der Administrator schreibt: {note}",

		PageBlocked:       "{app} ist gesperrt",
		PageWarned:        "{app}: Möchten Sie fortfahren?",
		PageOpen:          "Sie können {app} nutzen",
		App:               "App",
		Address:           "Adresse",
		Program:           "Programm",
		Time:              "Letzter Versuch",
		Attempts:          "Erster Versuch",
		Policy:            "Richtlinie",
		Indicator:         "Indikator",
		Evidence:          "Erkannt an",
		Details:           "Angaben für Ihre IT-Abteilung",
		AskHeading:        "Wer kann helfen?",
		AskBody:           "Wenn das nicht stimmen kann, hilft weiter: {contact}.",
		AskLink:           "Hilfeseite Ihrer Organisation öffnen",
		ContinueHeading:   "Trotzdem fortfahren",
		ContinueBody:      "Sie dürfen eine Zeit lang fortfahren. Das wird festgehalten.",
		ContinueButton:    "Fortfahren",
		RequestHeading:    "Zugriff beantragen",
		RequestBody:       "Ein Administrator entscheidet. Sie erfahren es hier und auf dem Bildschirm.",
		RequestButton:     "Zugriff beantragen",
		Reason:            "Begründung",
		ReasonOptional:    "Begründung (freiwillig)",
		ReasonHelp:        "Wofür brauchen Sie es? Höchstens 500 Zeichen. Administratoren können das lesen.",
		Continued:         "Sie können {app} bis {until} nutzen.",
		Pending:           "Sie haben Zugriff beantragt. Darüber ist noch nicht entschieden.",
		Approved:          "Ihr Antrag wurde genehmigt. Sie können {app} bis {until} nutzen.",
		ApprovedUnlimited: "Ihr Antrag wurde genehmigt. Sie können {app} nutzen.",
		Denied:            "Ihr Antrag wurde nicht genehmigt.",
		Withdrawn:         "Ihr Antrag wurde genehmigt, die Genehmigung dann aber zurückgenommen.",
		Note:              "Der Administrator schreibt:",
		TryAgain:          "Gehen Sie zurück zum Programm und versuchen Sie es erneut.",
		PageMissing:       "Hier ist nichts",
		PageMissingBody:   "Diese Seite gibt es nicht, sie ist nicht für Sie, oder sie ist älter als ein Tag. Versuchen Sie erneut, was gesperrt war, dann entsteht eine neue.",
		FaultReason:       "Bitte geben Sie eine Begründung an, in einfachem Text von höchstens 500 Zeichen.",
		FaultTooMany:      "Das war zu oft. Bitte warten Sie eine Weile.",
		FaultOther:        "Das geht jetzt nicht. So ist der Stand:",

		clock: "15:04 Uhr",
		date:  "02.01.2006, 15:04 Uhr",
	}
}
