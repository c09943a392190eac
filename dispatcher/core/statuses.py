"""Reply codes in words, for people: what a relay's numbers mean, in the languages of our pages.

An enhanced status code is class.subject.detail (RFC 3463 §2); subjects and details are those of the registry of RFC
5248, each in one clause. What has no clause of its own there is named by its subject; without an enhanced code, or
where it contradicts the basic one, the basic code speaks (RFC 5321 §4.2.2, RFC 4954 §6, RFC 7504).
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Final

LANGUAGES: Final = ("en", "fr", "es")

_CLASSES: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {"2": "Accepted", "4": "Refused for now", "5": "Refused for good"},
    "fr": {"2": "Accepté", "4": "Refusé pour le moment", "5": "Refusé définitivement"},
    "es": {"2": "Aceptado", "4": "Rechazado por ahora", "5": "Rechazado definitivamente"},
}
_COLON: Final = {"en": ": ", "fr": "\u00a0: ", "es": ": "}
_CODE: Final = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})")

# Subject and detail (`1.1`), a subject alone (`1`), or a basic code (`550`): one clause a line.
_EN: Final = """
0 the relay gives no more precise reason
1 something about the address
1.1 the mailbox does not exist there
1.2 the domain does not exist, or takes no mail
1.3 the address is not written as an address should be
1.4 the address could be more than one mailbox
1.5 the address is good
1.6 the mailbox has moved, and left no new address
1.7 our sender address is not written as an address should be
1.8 the domain of our sender address does not exist, or cannot be answered to
1.9 it went on to a system that may not report on it
1.10 the domain says that it takes no mail at all
2 something about the mailbox
2.1 the mailbox is disabled
2.2 the mailbox is full
2.3 the letter is larger than this mailbox may take
2.4 a mailing list there could not be resolved
3 something about the receiving system
3.1 the receiving system is full
3.2 the receiving system takes no mail at the moment
3.3 the receiving system cannot do what was asked of it
3.4 the letter is too large for the receiving system
3.5 the receiving system is not set up correctly
3.6 the priority that was asked for was changed
4 something about the network or the route
4.1 the receiving host does not answer
4.2 the connection was bad
4.3 a directory or name server failed
4.4 there is no route to the destination
4.5 too much mail is under way there
4.6 the letter went round in a circle
4.7 the letter was not delivered in time
5 something about the conversation between the two programs
5.1 a command that is not valid there
5.2 a command that could not be read
5.3 too many recipients at once
5.4 a command with values that are not valid
5.5 the other side speaks another version of the protocol
5.6 a line of the login was too long
6 something about the content
6.1 content of a kind that is not taken there
6.2 the content would have to be converted, and must not be
6.3 the content would have to be converted, and cannot be
6.4 the content was converted, with a loss
6.5 the content could not be converted
6.6 the content was not to be had
6.7 an address with letters beyond ASCII is not taken
6.8 a reply would need UTF-8, and must not have it
6.9 a header in UTF-8 cannot be passed on
6.10 a reply would need UTF-8, and must not have it
7 a rule of security or policy
7.1 the relay's rules do not allow this letter
7.2 writing to that mailing list is not allowed
7.3 it would have to be secured otherwise, and cannot be
7.4 a security feature is not supported
7.5 encryption or its key failed
7.6 an algorithm of encryption is not supported
7.7 the letter was changed on its way
7.8 user name or password are not right
7.9 the way of logging in is too weak
7.10 encryption is needed
7.11 logging in that way needs encryption
7.12 the password has to be renewed
7.13 the account is disabled
7.14 the other side has to be trusted first
7.15 the priority is too low
7.16 the letter is too large for its priority
7.17 the mailbox belongs to somebody else now
7.18 the domain belongs to somebody else now
7.19 whether the owner is still the same could not be checked
7.20 no DKIM signature is good
7.21 no DKIM signature is acceptable
7.22 no DKIM signature is the author's
7.23 SPF says that this relay may not send for our domain
7.24 the SPF record could not be checked
7.25 the relay's address has no good name (reverse DNS)
7.26 several proofs of the sender failed
7.27 our sender's domain says that it takes no mail
7.28 too many letters in a short time
7.29 a seal of ARC failed
7.30 TLS was required on the whole way, and is not to be had
250 taken over
251 taken over, and passed on to another address
252 taken over, though the mailbox could not be checked
421 the service is closing, or wants a pause
450 the mailbox cannot be reached at the moment
451 something went wrong at the relay
452 the relay has too little room, or takes fewer recipients at once
454 logging in or encryption is not possible at the moment
455 the relay cannot do this at the moment
500 a command that could not be read
501 a command with values that are not valid
502 a command that is not known there
503 commands in the wrong order
504 a command with something that is not known there
521 this host takes no mail
530 one has to log in first
534 the way of logging in is too weak
535 user name or password are not right
550 the mailbox is not to be had, or the relay's rules refuse it
551 the mailbox is not there; another address was given
552 the letter is too large, or the mailbox is full
553 the address is not allowed
554 the transaction failed
555 the address has an addition that is not known there
556 the domain takes no mail
"""
_FR: Final = """
0 le relais ne donne pas de raison plus précise
1 un problème d’adresse
1.1 cette boîte aux lettres n’existe pas
1.2 le domaine n’existe pas, ou ne reçoit pas de courrier
1.3 l’adresse n’est pas écrite comme il faut
1.4 l’adresse peut désigner plusieurs boîtes
1.5 l’adresse est bonne
1.6 la boîte a déménagé sans laisser d’adresse
1.7 notre adresse d’expéditeur n’est pas écrite comme il faut
1.8 le domaine de notre adresse d’expéditeur n’existe pas, ou l’on ne peut y répondre
1.9 la lettre est passée à un système qui n’en rendra peut-être pas compte
1.10 le domaine déclare ne recevoir aucun courrier
2 un problème de boîte aux lettres
2.1 la boîte est désactivée
2.2 la boîte est pleine
2.3 la lettre est plus grande que cette boîte ne l’admet
2.4 une liste de diffusion n’a pas pu être résolue
3 un problème du système destinataire
3.1 le système destinataire est plein
3.2 le système destinataire ne prend pas de courrier en ce moment
3.3 le système destinataire ne sait pas faire ce qui lui est demandé
3.4 la lettre est trop grande pour le système destinataire
3.5 le système destinataire est mal configuré
3.6 la priorité demandée a été modifiée
4 un problème de réseau ou d’acheminement
4.1 l’hôte destinataire ne répond pas
4.2 la connexion était mauvaise
4.3 un serveur d’annuaire ou de noms a failli
4.4 il n’y a pas de chemin vers la destination
4.5 trop de courrier y est en route
4.6 la lettre tournait en rond
4.7 la lettre n’a pas été remise à temps
5 un problème de dialogue entre les deux programmes
5.1 une commande qui n’y est pas valable
5.2 une commande qui n’a pas pu être lue
5.3 trop de destinataires à la fois
5.4 une commande dont les valeurs ne sont pas valables
5.5 l’autre côté parle une autre version du protocole
5.6 une ligne de l’identification était trop longue
6 un problème de contenu
6.1 ce genre de contenu n’y est pas admis
6.2 le contenu devrait être converti, et ne doit pas l’être
6.3 le contenu devrait être converti, et ne peut pas l’être
6.4 le contenu a été converti, avec une perte
6.5 le contenu n’a pas pu être converti
6.6 le contenu n’était pas disponible
6.7 une adresse avec des lettres hors ASCII n’est pas admise
6.8 une réponse demanderait l’UTF-8, qui n’est pas permis
6.9 un en-tête en UTF-8 ne peut pas être transmis
6.10 une réponse demanderait l’UTF-8, qui n’est pas permis
7 une règle de sécurité ou d’usage
7.1 les règles du relais n’autorisent pas cette lettre
7.2 il n’est pas permis d’écrire à cette liste de diffusion
7.3 il faudrait une autre protection, qui n’est pas possible
7.4 une fonction de sécurité n’est pas prise en charge
7.5 le chiffrement ou sa clé a échoué
7.6 un algorithme de chiffrement n’est pas pris en charge
7.7 la lettre a été changée en chemin
7.8 le nom d’utilisateur ou le mot de passe n’est pas juste
7.9 la manière de s’identifier est trop faible
7.10 le chiffrement est nécessaire
7.11 s’identifier ainsi demande le chiffrement
7.12 le mot de passe doit être renouvelé
7.13 le compte est désactivé
7.14 une relation de confiance est d’abord nécessaire
7.15 la priorité est trop basse
7.16 la lettre est trop grande pour sa priorité
7.17 la boîte appartient maintenant à quelqu’un d’autre
7.18 le domaine appartient maintenant à quelqu’un d’autre
7.19 on n’a pas pu vérifier que le propriétaire est resté le même
7.20 aucune signature DKIM n’est bonne
7.21 aucune signature DKIM n’est acceptable
7.22 aucune signature DKIM n’est celle de l’auteur
7.23 SPF dit que ce relais ne peut pas envoyer pour notre domaine
7.24 l’enregistrement SPF n’a pas pu être vérifié
7.25 l’adresse du relais n’a pas de bon nom (DNS inverse)
7.26 plusieurs preuves de l’expéditeur ont échoué
7.27 le domaine de notre expéditeur déclare ne recevoir aucun courrier
7.28 trop de lettres en peu de temps
7.29 un sceau ARC a échoué
7.30 TLS était exigé sur tout le chemin, et n’est pas disponible
250 prise en charge
251 prise en charge, et transmise à une autre adresse
252 prise en charge, sans que la boîte ait pu être vérifiée
421 le service ferme, ou demande une pause
450 la boîte n’est pas joignable en ce moment
451 quelque chose a échoué chez le relais
452 le relais manque de place, ou prend moins de destinataires à la fois
454 s’identifier ou chiffrer n’est pas possible en ce moment
455 le relais ne peut pas le faire en ce moment
500 une commande qui n’a pas pu être lue
501 une commande dont les valeurs ne sont pas valables
502 une commande qui n’y est pas connue
503 des commandes dans le mauvais ordre
504 une commande avec un élément qui n’y est pas connu
521 cet hôte ne reçoit pas de courrier
530 il faut d’abord s’identifier
534 la manière de s’identifier est trop faible
535 le nom d’utilisateur ou le mot de passe n’est pas juste
550 la boîte n’est pas disponible, ou les règles du relais la refusent
551 la boîte n’est pas là ; une autre adresse a été donnée
552 la lettre est trop grande, ou la boîte est pleine
553 l’adresse n’est pas admise
554 la transaction a échoué
555 l’adresse porte un ajout qui n’y est pas connu
556 le domaine ne reçoit pas de courrier
"""
_ES: Final = """
0 el relé no da una razón más precisa
1 un problema de la dirección
1.1 ese buzón no existe
1.2 el dominio no existe o no recibe correo
1.3 la dirección no está escrita como debe
1.4 la dirección puede ser de varios buzones
1.5 la dirección es buena
1.6 el buzón se ha mudado sin dejar dirección
1.7 nuestra dirección de remitente no está escrita como debe
1.8 el dominio de nuestra dirección de remitente no existe o no se le puede responder
1.9 la carta pasó a un sistema que quizá no informe de ella
1.10 el dominio declara que no recibe correo
2 un problema del buzón
2.1 el buzón está desactivado
2.2 el buzón está lleno
2.3 la carta es mayor de lo que admite este buzón
2.4 una lista de correo no se pudo resolver
3 un problema del sistema destinatario
3.1 el sistema destinatario está lleno
3.2 el sistema destinatario no admite correo en este momento
3.3 el sistema destinatario no sabe hacer lo que se le pide
3.4 la carta es demasiado grande para el sistema destinatario
3.5 el sistema destinatario está mal configurado
3.6 la prioridad pedida se cambió
4 un problema de la red o de la ruta
4.1 el equipo destinatario no responde
4.2 la conexión era mala
4.3 falló un servidor de directorio o de nombres
4.4 no hay ruta hasta el destino
4.5 hay allí demasiado correo en camino
4.6 la carta daba vueltas
4.7 la carta no se entregó a tiempo
5 un problema de la conversación entre los dos programas
5.1 una orden que allí no es válida
5.2 una orden que no se pudo leer
5.3 demasiados destinatarios a la vez
5.4 una orden con valores que no son válidos
5.5 el otro lado habla otra versión del protocolo
5.6 una línea de la identificación era demasiado larga
6 un problema del contenido
6.1 allí no se admite ese tipo de contenido
6.2 habría que convertir el contenido, y no se debe
6.3 habría que convertir el contenido, y no se puede
6.4 el contenido se convirtió con pérdida
6.5 el contenido no se pudo convertir
6.6 el contenido no estaba disponible
6.7 no se admite una dirección con letras fuera de ASCII
6.8 una respuesta pediría UTF-8, que no está permitido
6.9 un encabezado en UTF-8 no se puede transmitir
6.10 una respuesta pediría UTF-8, que no está permitido
7 una regla de seguridad o de uso
7.1 las reglas del relé no permiten esta carta
7.2 no se permite escribir a esa lista de correo
7.3 haría falta otra protección, que no es posible
7.4 una función de seguridad no se admite
7.5 falló el cifrado o su clave
7.6 un algoritmo de cifrado no se admite
7.7 la carta se cambió por el camino
7.8 el usuario o la contraseña no son correctos
7.9 la manera de identificarse es demasiado débil
7.10 hace falta cifrado
7.11 identificarse así exige cifrado
7.12 hay que renovar la contraseña
7.13 la cuenta está desactivada
7.14 hace falta primero una relación de confianza
7.15 la prioridad es demasiado baja
7.16 la carta es demasiado grande para su prioridad
7.17 el buzón es ahora de otra persona
7.18 el dominio es ahora de otro dueño
7.19 no se pudo comprobar que el dueño sea el mismo
7.20 ninguna firma DKIM es buena
7.21 ninguna firma DKIM es aceptable
7.22 ninguna firma DKIM es del autor
7.23 SPF dice que este relé no puede enviar por nuestro dominio
7.24 el registro SPF no se pudo comprobar
7.25 la dirección del relé no tiene un buen nombre (DNS inverso)
7.26 fallaron varias pruebas del remitente
7.27 el dominio de nuestro remitente declara que no recibe correo
7.28 demasiadas cartas en poco tiempo
7.29 falló un sello ARC
7.30 se exigía TLS en todo el camino, y no está disponible
250 recibida
251 recibida y pasada a otra dirección
252 recibida, aunque el buzón no se pudo comprobar
421 el servicio se cierra o pide una pausa
450 el buzón no está disponible en este momento
451 algo falló en el relé
452 al relé le falta espacio, o admite menos destinatarios a la vez
454 identificarse o cifrar no es posible en este momento
455 el relé no puede hacerlo en este momento
500 una orden que no se pudo leer
501 una orden con valores que no son válidos
502 una orden que allí no se conoce
503 órdenes fuera de orden
504 una orden con algo que allí no se conoce
521 este equipo no recibe correo
530 hay que identificarse primero
534 la manera de identificarse es demasiado débil
535 el usuario o la contraseña no son correctos
550 el buzón no está disponible, o las reglas del relé lo rechazan
551 el buzón no está allí; se dio otra dirección
552 la carta es demasiado grande, o el buzón está lleno
553 la dirección no está permitida
554 la transacción falló
555 la dirección lleva un añadido que allí no se conoce
556 el dominio no recibe correo
"""
_TEXTS: Final = {"en": _EN, "fr": _FR, "es": _ES}


@cache
def clauses(language: str) -> Mapping[str, str]:
    """All clauses of a language, by subject and detail, by subject, or by basic code."""
    parted = (line.partition(" ") for line in _TEXTS[language].strip().splitlines())
    return {code: said for code, _, said in parted}


@lru_cache(maxsize=1024)
def in_words(code: int | None, enhanced: str, language: str = "en") -> str:
    """What a reply means, in one sentence without its full stop; '' if there was none, or nothing is known of it."""
    known, classes = clauses(language), _CLASSES[language]
    found = _CODE.fullmatch(enhanced)
    if found and (code is None or enhanced[0] == str(code)[0]):
        kind, subject, detail = found.groups()
        said = known.get(f"{int(subject)}.{int(detail)}") or known.get(str(int(subject))) or known["0"]
        if kind == "2" and detail == "0":  # nothing more than that it is well
            said = known["250"]
        return f"{classes[kind]}{_COLON[language]}{said}"
    if code is None or str(code)[0] not in classes:
        return ""
    said = known.get(str(code)) or known["0"]
    return f"{classes[str(code)[0]]}{_COLON[language]}{said}"
