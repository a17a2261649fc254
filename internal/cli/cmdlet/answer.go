package cmdlet

import "strings"

// answerError is the answer to a command that has no meaning outside of Windows.
type answerError struct{ text string }

// Error is the answer.
func (e *answerError) Error() string { return e.text }

// answers are what is done here instead of commands that exist on Windows alone, by
// the command in small letters without .exe.
var answers = map[string]string{
	"install-windowsfeature":    "there is nothing to install: here are the cmdlets of the Active Directory module (Get-Help)",
	"install-windowscapability": "there is nothing to install: here are the cmdlets of the Active Directory module (Get-Help)",
	"add-windowscapability":     "there is nothing to install: here are the cmdlets of the Active Directory module (Get-Help)",
	"install-module":            "there is nothing to install: here are the cmdlets of the CredentialSpec module (Get-Help New-CredentialSpec)",
	"save-module":               "there is nothing to save: the cmdlets of the CredentialSpec module are in this program",
	"import-module":             "there is nothing to import: here are the cmdlets of the Active Directory, KDS and CredentialSpec modules",
	"new-scheduledtaskprincipal": "here a timer of systemd starts the task, and its service has the account: gmsa account install NAME --service TASK.service. " +
		"On Windows the account also needs \"Log on as a batch job\", and at times \"Log on as a service\": else event 101 with 2147943785 (logon type not granted)",
	"set-scheduledtask": "here a timer of systemd starts the task, and its service has the account: gmsa account install NAME --service TASK.service. " +
		"On Windows a task that fails with event 101 and 2147943785 lacks \"Log on as a batch job\"",
	"add-localgroupmember": "a program that runs with the account keeps its own local user here: give that user rights with usermod -aG GROUP USER; " +
		"in the domain: gmsa group add-member GROUP ACCOUNT",
	"sc":       "here the service's unit gets the account: gmsa account install NAME --service UNIT; in a container the lease is for the user that the image runs as (uid=)",
	"appcmd":   "a web server gets the account as a service: gmsa account install NAME --service apache2 --keytab; in a container with the credential spec's device",
	"dsmod":    "gmsa group add-member GROUP COMPUTER",
	"drsm":     "gmsa group remove-member GROUP COMPUTER",
	"psexec":   "gmsa run --account NAME -- COMMAND",
	"psexec64": "gmsa run --account NAME -- COMMAND",
	"runas":    "gmsa run --account NAME -- COMMAND",
	"docker":   "in a shell: gmsa docker, which has this line work on Linux; gmsa runtime install docker --shim puts it in front of docker",
	"dir":      "gmsa run --account NAME -- smbclient -k //DOMAIN/SYSVOL -c ls",
	"user":     "the lease belongs to the user that the image runs as: no special user is needed (uid= on the device sets another)",
	"run":      "no step of the image needs to know the account: the lease is mounted when the container starts",
	"send-mailmessage": "a mail server that gets no name and password is not asked to authenticate by programs here. On Windows the account is offered by default, " +
		"and a server that refuses it ends the connection (net_io_connectionclosed): -Credential with NT AUTHORITY\\ANONYMOUS LOGON avoids it",
	"new-object":              "only Windows' own objects are made with it; with Send-MailMessage it stands for anonymous sending, which is what mail programs here do by default",
	"convertto-securestring":  "passwords are typed or read from files here: -U NAME --password-file FILE",
	"secpol":                  "\"Log on as a service\" and \"Log on as a batch job\" are rights of Windows; here a unit of systemd says which user a service has",
	"netremoveserviceaccount": "gmsa account uninstall NAME",
	"create":                  sqlAnswer,
	"use":                     sqlAnswer,
	"exec":                    sqlAnswer,
	"whoami":                  "whose tickets a program has: gmsa klist; the local user stays what it is",
}

// sqlAnswer is the answer to statements for a SQL server.
const sqlAnswer = "this is for the SQL server, where it stays as it is: the login is DOMAIN\\ACCOUNT$. " +
	"A client here logs in with the account's ticket: gmsa run --account NAME -- COMMAND"

// answerTo is the answer to a command; empty if there is none.
func answerTo(name string) string {
	name = strings.ToLower(name)
	for _, suffix := range []string{".exe", ".msc"} {
		name = strings.TrimSuffix(name, suffix)
	}
	if i := strings.LastIndexAny(name, `\/`); i >= 0 {
		name = name[i+1:]
	}
	if text := answers[name]; text != "" {
		return name + ": " + text
	}
	return ""
}
