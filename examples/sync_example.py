"""The same thing for blocking code: no await anywhere but in the tools.

Prints:

    Oslo: 7 degrees.
    > It > is > seven > degrees > in > Oslo.
    user, assistant, tool, assistant, user, assistant
"""

from holdfast import Agent, Request, TextDelta, sync, tool
from holdfast.drivers.sim import Sim, Step, call, say


@tool(effect="pure")
def temperature(city: str) -> str:
    """The temperature in a city."""
    return f"{city}: {len(city) + 3} degrees."


def weatherman(request: Request) -> Step:
    """The simulated model: look it up the first time, then say it."""
    last = request.messages[-1]
    if last.role == "tool":
        return say(last.text)
    if len(request.messages) == 1:
        return call("temperature", city="Oslo")
    return say("It is seven degrees in Oslo.", delay=0.2)


def main() -> None:
    """Two turns: one waited for, one watched."""
    agent = Agent("You know the weather.", model=Sim.rule(weatherman), tools=[temperature])
    with sync.Runtime("weather.db") as runtime:
        session = runtime.session(agent)
        print(session.run("How warm is it in Oslo?").text)
        for item in session.send("Say it in words."):
            if isinstance(item, TextDelta):
                print(">", item.text.strip(), end=" ")
        print()
        print(", ".join(message.role for message in session.messages()))


if __name__ == "__main__":
    main()
