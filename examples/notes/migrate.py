"""Run by the init container before each version starts: makes the table, and seeds it when it is empty."""

from database import connected

SEED = ("Buy oat milk", "Call the plumber", "Read the pull request")


def main() -> None:
    connection = connected()
    connection.run("START TRANSACTION")
    connection.run("CREATE TABLE IF NOT EXISTS note (id serial PRIMARY KEY, text text NOT NULL)")
    ((count,),) = connection.run("SELECT count(*) FROM note")
    for text in SEED if count == 0 else ():
        connection.run("INSERT INTO note (text) VALUES (:text)", text=text)
    connection.run("COMMIT")
    connection.close()


if __name__ == "__main__":
    main()
